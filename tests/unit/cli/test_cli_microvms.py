"""`emberbox ps`, `events` and `top`: what they make of the API's answers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from emberbox.cli.microvms import format_age, format_bytes, read_events, render_event


class Client:
    """Plays ListEvents over a list that grows with each call."""

    def __init__(self, *pages: list[int]) -> None:
        self._pages = itertools.chain(pages, itertools.repeat([]))
        self.calls: list[dict[str, Any]] = []

    def list_events(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append(parameters)
        return {"items": [{"eventId": number} for number in next(self._pages)]}


def test_events_without_follow_are_one_page() -> None:
    client = Client([1, 2], [3])
    assert [event["eventId"] for event in read_events(client, "microvm-1", 50, follow=False)] == [1, 2]
    assert client.calls == [{"microvmIdentifier": "microvm-1", "maxResults": 50}]


def test_followed_events_go_on_from_the_last_and_come_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emberbox.cli.microvms._POLL_S", 0)
    client = Client([4, 5], [], [6, 7], [8])
    events = itertools.islice(read_events(client, None, 2, follow=True), 5)
    assert [event["eventId"] for event in events] == [4, 5, 6, 7, 8]
    assert [call.get("afterEventId") for call in client.calls] == [None, 5, 5, 7]


def test_an_event_is_a_line_with_who_why_and_how_long() -> None:
    event = {
        "eventId": 7,
        "time": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
        "microvmId": "microvm-1",
        "fromState": "SUSPENDED",
        "state": "RUNNING",
        "actor": "REQUEST",
        "reason": "A request to port 8080.",
        "durationInMilliseconds": 120,
    }
    line = render_event(event)
    assert ".678 microvm-1 SUSPENDED → RUNNING" in line
    assert line.endswith("120 ms  REQUEST     A request to port 8080.")
    assert "(new) → PENDING" in render_event(event | {"fromState": None, "state": "PENDING"})


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (60, "1m"), (7300, "2h"), (90000, "1d")])
def test_an_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, "-"), (0, "-"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")])
def test_bytes_are_in_mib_or_gib(count: int | None, text: str) -> None:
    assert format_bytes(count) == text
