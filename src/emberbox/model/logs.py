"""What is told of logs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from emberbox.model.records import LogEvent


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """A log stream: when its first and last events happened, in milliseconds since 1970."""

    group: str
    name: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A log group: when it began, in milliseconds since 1970, and the days that its events are kept, if limited."""

    name: str
    created: int
    retention_days: int | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of one stream, in the order they came, and what the pages after and before are asked for with."""

    events: Sequence[LogEvent]
    forward_token: str
    backward_token: str


def log_stream_name(version: str, owner: str) -> str:
    """Return the name of a new log stream, in AWS's form: day of its start, version, id."""
    return f"{time.strftime('%Y/%m/%d', time.gmtime())}[{version}]{owner}"


def log_stream_names(version: str, owner: str, since: datetime, until: datetime) -> list[str]:
    """Return the names that a log stream may have which was begun between two moments."""
    days = (until.date() - since.date()).days
    return [f"{(since + timedelta(days=day)).strftime('%Y/%m/%d')}[{version}]{owner}" for day in range(days + 1)]
