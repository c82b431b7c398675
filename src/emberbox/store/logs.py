"""Log groups, streams and events, in a database of their own so that chatter never holds up the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, Select, cast, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.logs import GroupSummary, StreamSummary
from emberbox.model.records import LogEvent, LogGroup
from emberbox.store.changes import Change, Kind, log_key
from emberbox.store.database import Database
from emberbox.store.schema import log_events, log_groups

STREAM_EVENTS_MAX = 100_000
"""Older events of a stream are dropped: a guest that prints without end fills no disk."""
PAGE_BYTES = 1 << 20
EVENT_OVERHEAD_BYTES = 26
DAY_MS = 24 * 3600 * 1000
_ROWS_AT_ONCE = 50
_FORGET_AT_ONCE = 20_000


def _in(group: LogGroup) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return log_events.c.account_id == group.account_id, log_events.c.log_group == group.name


class LogStore:
    """Log events in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, group: LogGroup, stream: str, lines: Iterable[tuple[int, str]]) -> None:
        """Add events, pairs of time in milliseconds and text, and make their group where it is not there."""
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
            key = log_key(group.account_id, group.name, stream)
            with self._database.transaction(Change(Kind.LOG, key)) as connection:
                connection.execute(insert(log_events), rows)
            self._keep_group(group)

    def _keep_group(self, group: LogGroup) -> None:
        """Make a group of which there are events alone: it outlives them, as on AWS."""
        if self._is_made(group):
            return
        with self._database.reading() as connection:
            first = connection.execute(select(func.min(log_events.c.timestamp)).where(*_in(group))).scalar()
        if first is not None:
            self.make_group(group, first)

    def _is_made(self, group: LogGroup) -> bool:
        made = select(log_groups.c.name).where(
            log_groups.c.account_id == group.account_id, log_groups.c.name == group.name
        )
        with self._database.reading() as connection:
            return connection.execute(made).first() is not None

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

    def page(
        self,
        group: LogGroup,
        streams: Sequence[str] | None,
        after_id: int,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        before_id: int | None = None,
        *,
        newest: bool = False,
    ) -> tuple[list[LogEvent], bool]:
        """Return a page of events in the order they came, and whether it was too full for all.

        A page has at most 1 MB, in which an event counts 26 bytes beside its text ("CloudWatch Logs API Reference",
        GetLogEvents and PutLogEvents), but at least one event.

        Args:
            group: the log group.
            streams: only these streams; None for all.
            after_id: 0, or the id of an event: only later ones.
            limit: at most so many.
            start_ms: only events at or after this time.
            end_ms: only events before this time.
            before_id: only events before the one with this id.
            newest: of too many take the last ones, not the first.
        """
        query = select(log_events).where(*_in(group), log_events.c.id > after_id)
        if streams is not None:
            query = query.where(log_events.c.log_stream.in_(list(streams)))
        if start_ms is not None:
            query = query.where(log_events.c.timestamp >= start_ms)
        if end_ms is not None:
            query = query.where(log_events.c.timestamp < end_ms)
        if before_id is not None:
            query = query.where(log_events.c.id < before_id)
        if newest:
            found, has_more = self._fetch(query.order_by(log_events.c.id.desc()), limit)
            return found[::-1], has_more
        return self._fetch(query.order_by(log_events.c.id), limit)

    def events(self, group: LogGroup, streams: Sequence[str] | None, after_id: int, limit: int) -> list[LogEvent]:
        """Return the events of the first page, in the order they came."""
        return self.page(group, streams, after_id, limit)[0]

    def _fetch(self, query: Select[Any], limit: int) -> tuple[list[LogEvent], bool]:
        """Return the first events of a query, as many as a page takes: few rows are in memory at a time."""
        found: list[LogEvent] = []
        left = PAGE_BYTES
        with self._database.reading() as connection:
            for row in connection.execute(query.limit(limit + 1).execution_options(yield_per=_ROWS_AT_ONCE)):
                left -= len(row.message.encode()) + EVENT_OVERHEAD_BYTES
                if len(found) == limit or (found and left < 0):
                    return found, True
                found.append(LogEvent(row.id, row.log_group, row.log_stream, row.timestamp, row.message))
        return found, False

    def groups(self, account_id: str, prefix: str) -> list[GroupSummary]:
        """Return an account's groups whose name begins with `prefix`, by name.

        Those of which there are events alone, which earlier versions wrote, are among them.
        """
        told = (
            select(log_events.c.log_group, func.min(log_events.c.timestamp))
            .where(log_events.c.account_id == account_id)
            .where(log_events.c.log_group.startswith(prefix, autoescape=True))
            .group_by(log_events.c.log_group)
        )
        made = select(log_groups).where(
            log_groups.c.account_id == account_id, log_groups.c.name.startswith(prefix, autoescape=True)
        )
        with self._database.reading() as connection:
            found = {name: GroupSummary(name, first, None) for name, first in connection.execute(told)}
            for row in connection.execute(made):
                found[row.name] = GroupSummary(row.name, row.created_at, row.retention_days)
        return [found[name] for name in sorted(found)]

    def has_group(self, group: LogGroup) -> bool:
        """Say whether a group was made or has an event."""
        if self._is_made(group):
            return True
        with self._database.reading() as connection:
            return connection.execute(select(log_events.c.id).where(*_in(group)).limit(1)).first() is not None

    def group_bytes(self, account_id: str, names: Sequence[str]) -> dict[str, int]:
        """Return what the events of groups count: their texts in UTF-8, and 26 bytes each beside.

        Args:
            account_id: whose groups.
            names: which; those without events are left out.
        """
        with self._database.reading() as connection:
            sized = log_events.c.message
            is_sqlite = connection.dialect.name == "sqlite"
            size = func.length(cast(sized, LargeBinary)) if is_sqlite else func.octet_length(sized)
            query = (
                select(log_events.c.log_group, func.sum(size + EVENT_OVERHEAD_BYTES))
                .where(log_events.c.account_id == account_id, log_events.c.log_group.in_(list(names)))
                .group_by(log_events.c.log_group)
            )
            return {name: int(total) for name, total in connection.execute(query)}

    def make_group(self, group: LogGroup, now_ms: int) -> bool:
        """Make a group without events; False when it is there."""
        values = {"account_id": group.account_id, "name": group.name, "created_at": now_ms}
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(log_groups).values(**values))
        except IntegrityError:
            return False
        return True

    def set_retention(self, group: LogGroup, days: int | None) -> None:
        """Say how many days the events of a made group are kept; None for as long as the server's setting says."""
        statement = update(log_groups).where(
            log_groups.c.account_id == group.account_id, log_groups.c.name == group.name
        )
        with self._database.transaction() as connection:
            connection.execute(statement.values(retention_days=days))

    def remove(self, group: LogGroup, stream: str | None = None) -> None:
        """Remove a stream with its events, or a whole group."""
        events = delete(log_events).where(*_in(group))
        with self._database.transaction() as connection:
            if stream is not None:
                connection.execute(events.where(log_events.c.log_stream == stream))
                return
            connection.execute(events)
            connection.execute(
                delete(log_groups).where(log_groups.c.account_id == group.account_id, log_groups.c.name == group.name)
            )

    def forget_old(self, now_ms: int, default_days: int) -> int:
        """Remove events older than their group's retention, or than the default; return how many."""
        own = select(log_groups).where(log_groups.c.retention_days.is_not(None))
        removed = 0
        with self._database.transaction() as connection:
            for row in connection.execute(own).all():
                before = log_events.c.timestamp < now_ms - row.retention_days * DAY_MS
                group = LogGroup(row.account_id, row.name)
                removed += connection.execute(delete(log_events).where(*_in(group), before)).rowcount
            longest = select(log_groups.c.name).where(
                log_groups.c.account_id == log_events.c.account_id,
                log_groups.c.name == log_events.c.log_group,
                log_groups.c.retention_days.is_not(None),
            )
            old = log_events.c.timestamp < now_ms - default_days * DAY_MS
            removed += connection.execute(delete(log_events).where(old, ~longest.exists())).rowcount
        return removed

    def forget_beyond(self, max_bytes: int) -> int:
        """Remove the oldest events until what is stored takes no more than so many bytes; return how many."""
        removed = 0
        while (excess := self.stored_bytes() - max_bytes) > 0:
            with self._database.transaction() as connection:
                last = _find_last_of(excess, connection)
                done = connection.execute(delete(log_events).where(log_events.c.id <= last))
            if not done.rowcount:
                break
            removed += done.rowcount
        return removed

    def stored_bytes(self) -> int:
        """Return what the events take: of SQLite's file what is used, so that it costs no look at every row."""
        with self._database.reading() as connection:
            if connection.dialect.name != "sqlite":
                return int(connection.execute(select(func.sum(func.length(log_events.c.message)))).scalar() or 0)
            pages, free, size = (
                int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def streams(self, group: LogGroup, prefix: str) -> list[StreamSummary]:
        """Return the streams of a group whose name begins with `prefix`, by name."""
        query = (
            select(log_events.c.log_stream, func.min(log_events.c.timestamp), func.max(log_events.c.timestamp))
            .where(*_in(group))
            .where(log_events.c.log_stream.startswith(prefix, autoescape=True))
            .group_by(log_events.c.log_stream)
            .order_by(log_events.c.log_stream)
        )
        with self._database.reading() as connection:
            return [StreamSummary(group.name, name, first, last) for name, first, last in connection.execute(query)]


def _find_last_of(excess: int, connection: Connection) -> int:
    """Return the last id of the oldest events that take about so many bytes together; only so many at once."""
    oldest = select(log_events.c.id, func.length(log_events.c.message)).order_by(log_events.c.id)
    last = 0
    rows = connection.execute(oldest.limit(_FORGET_AT_ONCE).execution_options(yield_per=_FORGET_AT_ONCE))
    for last, length in rows:  # noqa: B007 - the last one counts
        excess -= length
        if excess <= 0:
            break
    rows.close()
    return last
