"""`emberbox ps`, `events` and `top`: what they make of the API's answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from emberbox.cli.microvms import format_age, format_bytes, render_event
from emberbox_sdk import SandboxEvent


def test_an_event_is_a_line_with_who_why_and_how_long() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    event = SandboxEvent(7, moment, "microvm-1", "SUSPENDED", "RUNNING", "REQUEST", "A request to port 8080.", 120)
    line = render_event(event)
    assert ".678 microvm-1 SUSPENDED → RUNNING" in line
    assert line.endswith("120 ms  REQUEST     A request to port 8080.")
    assert "(new) → PENDING" in render_event(replace(event, before="", state="PENDING"))


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (60, "1m"), (7300, "2h"), (90000, "1d")])
def test_an_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, "-"), (0, "-"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")])
def test_bytes_are_in_mib_or_gib(count: int | None, text: str) -> None:
    assert format_bytes(count) == text
