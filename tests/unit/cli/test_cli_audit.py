"""`emberbox audit`: pages read to their end, and records as lines."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emberbox.cli.audit import parse_moment, read_events, render
from emberbox.model.errors import HostError


class Pages:
    """Answers LookupAuditEvents from pages of event names, and remembers what it was asked."""

    def __init__(self, *pages: list[str]) -> None:
        self._pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def lookup_audit_events(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        number = len(self.asked)
        events = [{"eventName": name} for name in (self._pages[number - 1 : number] or [[]])[0]]
        return {"events": events, "nextToken": f"token {number}", "atEnd": number >= len(self._pages)}


def test_pages_are_read_to_the_end_so_far_even_over_an_empty_one() -> None:
    pages = Pages(["A", "B"], [], ["C"])
    found = [event["eventName"] for event in read_events(pages, {"eventName": "x"}, follow=False)]
    assert found == ["A", "B", "C"]
    assert [asked.get("nextToken") for asked in pages.asked] == [None, "token 1", "token 2"]
    assert all(asked["eventName"] == "x" for asked in pages.asked)


def test_who_follows_waits_for_more_and_does_not_see_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("emberbox.cli.audit.time.sleep", waits.append)
    pages = Pages(["A"], ["LookupAuditEvents", "B"], [], ["C"])
    found = itertools.islice(read_events(pages, {}, follow=True), 3)
    assert [event["eventName"] for event in found] == ["A", "B", "C"]


def test_a_record_is_shown_as_a_line() -> None:
    record = {
        "eventTime": "2026-11-24T10:00:00.123456Z",
        "eventName": "RunMicrovm",
        "errorCode": "AccessDeniedException",
        "httpStatus": 403,
        "userIdentity": {"arn": "arn:aws:iam::1:user/ann"},
        "sourceIPAddress": "192.0.2.1",
        "resources": [{"ARN": "arn:image"}, {"ARN": "arn:connector"}],
    }
    moment = datetime(2026, 11, 24, 10, tzinfo=UTC).astimezone()
    wanted = f"{moment:%Y-%m-%d %H:%M:%S} AccessDeniedException RunMicrovm arn:aws:iam::1:user/ann 192.0.2.1 arn:image"
    assert render(record) == wanted
    lost = {"eventTime": "2026-11-24T10:00:00Z", "eventName": "AuditRecordsLost", "count": 3}
    assert render(json.loads(json.dumps(lost))).endswith("- AuditRecordsLost unknown -")


@pytest.mark.parametrize(
    ("text", "ago"),
    [("30s", timedelta(seconds=30)), ("10m", timedelta(minutes=10)), ("2h", timedelta(hours=2)), ("3d", timedelta(3))],
)
def test_a_moment_is_a_time_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    assert before - ago <= parse_moment(text) <= datetime.now(UTC) - ago


def test_a_moment_is_a_date() -> None:
    assert parse_moment("2026-11-24T10:00:00+00:00") == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert parse_moment("2026-11-24T10:00").astimezone().hour == 10


@pytest.mark.parametrize("text", ["yesterday", "10", "10w", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="write 10m, 2h, 3d"):
        parse_moment(text)
