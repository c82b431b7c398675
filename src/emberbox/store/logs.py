"""Log groups, streams and events, in a database of their own so that chatter never holds up the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, select

from emberbox.model.records import LogEvent, LogGroup
from emberbox.store.database import Database
from emberbox.store.schema import log_events

STREAM_EVENTS_MAX = 100_000
"""Older events of a stream are dropped: a guest that prints without end fills no disk."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """A log stream: when its first and last events happened, in milliseconds since 1970."""

    group: str
    name: str
    first: int
    last: int


def _in(group: LogGroup) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return log_events.c.account_id == group.account_id, log_events.c.log_group == group.name


class LogStore:
    """Log events in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, group: LogGroup, stream: str, lines: Iterable[tuple[int, str]]) -> None:
        """Add events: pairs of time in milliseconds and text."""
        rows = [
            {
                "account_id": group.account_id,
                "log_group": group.name,
                "log_stream": stream,
                "timestamp": timestamp,
                "message": text,
            }
            for timestamp, text in lines
        ]
        if rows:
            with self._database.transaction() as connection:
                connection.execute(insert(log_events), rows)

    def trim(self, group: LogGroup, stream: str) -> None:
        """Drop the oldest events of a stream beyond the limit."""
        newest = (
            select(log_events.c.id)
            .where(*_in(group), log_events.c.log_stream == stream)
            .order_by(log_events.c.id.desc())
            .offset(STREAM_EVENTS_MAX)
            .limit(1)
        )
        with self._database.transaction() as connection:
            last = connection.execute(newest).scalar()
            if last is not None:
                connection.execute(
                    delete(log_events).where(
                        *_in(group),
                        log_events.c.log_stream == stream,
                        log_events.c.id <= last,
                    )
                )

    def events(
        self,
        group: LogGroup,
        streams: Sequence[str] | None,
        after_id: int,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        containing: str | None = None,
    ) -> list[LogEvent]:
        """Return events in the order they came, after an id.

        Args:
            group: the log group.
            streams: only these streams; None for all.
            after_id: 0, or the id of the last event that was seen.
            limit: at most so many.
            start_ms: only events at or after this time.
            end_ms: only events before this time.
            containing: only events with this text.
        """
        query = select(log_events).where(*_in(group), log_events.c.id > after_id)
        if streams is not None:
            query = query.where(log_events.c.log_stream.in_(list(streams)))
        if start_ms is not None:
            query = query.where(log_events.c.timestamp >= start_ms)
        if end_ms is not None:
            query = query.where(log_events.c.timestamp < end_ms)
        if containing:
            query = query.where(log_events.c.message.contains(containing, autoescape=True))
        return self._fetch(query.order_by(log_events.c.id).limit(limit))

    def _fetch(self, query: Select[Any]) -> list[LogEvent]:
        with self._database.transaction() as connection:
            return [
                LogEvent(row.id, row.log_group, row.log_stream, row.timestamp, row.message)
                for row in connection.execute(query)
            ]

    def groups(self, account_id: str, prefix: str) -> list[tuple[str, int]]:
        """Return an account's groups whose name begins with `prefix`, with the time of their first event."""
        query = (
            select(log_events.c.log_group, func.min(log_events.c.timestamp))
            .where(log_events.c.account_id == account_id)
            .where(log_events.c.log_group.startswith(prefix, autoescape=True))
            .group_by(log_events.c.log_group)
            .order_by(log_events.c.log_group)
        )
        with self._database.transaction() as connection:
            return [(name, first) for name, first in connection.execute(query)]

    def streams(self, group: LogGroup, prefix: str) -> list[StreamSummary]:
        """Return the streams of a group whose name begins with `prefix`, by name."""
        query = (
            select(log_events.c.log_stream, func.min(log_events.c.timestamp), func.max(log_events.c.timestamp))
            .where(*_in(group))
            .where(log_events.c.log_stream.startswith(prefix, autoescape=True))
            .group_by(log_events.c.log_stream)
            .order_by(log_events.c.log_stream)
        )
        with self._database.transaction() as connection:
            return [StreamSummary(group.name, name, first, last) for name, first, last in connection.execute(query)]
