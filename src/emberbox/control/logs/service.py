"""Log groups and streams, made, listed and deleted, and events read and filtered: as CloudWatch Logs does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, TypeVar

from emberbox.background import in_thread
from emberbox.control.logs.commands import FilterEvents, ListGroups, ListStreams, ReadEvents
from emberbox.control.logs.patterns import compile_log_pattern
from emberbox.control.requests.paging import Page, PageRequest, PageTokens, cut_page
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, NotFoundError, ValidationError
from emberbox.model.logs import EventPage, GroupSummary, StreamSummary
from emberbox.model.records import LogEvent, LogGroup
from emberbox.store.logs import LogStore

PAGE_EVENTS: Final = 10_000
PAGE_NAMES: Final = 50
RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""What PutRetentionPolicy takes ("CloudWatch Logs API Reference", PutRetentionPolicy)."""
_GROUPS, _STREAMS, _READ, _FILTER = "DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"
"""The names of the lists in page tokens."""

T = TypeVar("T")


class LogService:
    """Tells of logs and removes them.

    Args:
        store: the events.
        page_tokens: for the lists.
    """

    def __init__(self, store: LogStore, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    async def list_groups(self, caller: Caller, asked: ListGroups) -> Page[GroupSummary]:
        """Return groups, by name.

        Raises:
            ValidationError: the token is not one of this list's.
        """
        found = await in_thread(self._store.groups, caller.account_id, asked.prefix)
        wanted = [group for group in found if asked.part.lower() in group.name.lower()]
        return self._cut(_GROUPS, wanted, asked.page)

    async def measure_groups(self, caller: Caller, names: Sequence[str]) -> dict[str, int]:
        """Return how many bytes the events of groups count, by name; those without events are left out."""
        return await in_thread(self._store.group_bytes, caller.account_id, names)

    async def list_streams(self, caller: Caller, asked: ListStreams) -> Page[StreamSummary]:
        """Return streams of a group.

        Raises:
            NotFoundError: there is no such group.
            ValidationError: the token is not one of this list's.
        """
        group = self._find_group(caller, asked.group)
        streams = await in_thread(self._store.streams, group, asked.prefix)
        if asked.by_last_event:
            streams.sort(key=lambda stream: (stream.last, stream.name))
        if asked.descending:
            streams.reverse()
        return self._cut(_STREAMS, streams, asked.page)

    def create_group(self, caller: Caller, name: str) -> None:
        """Make a group without events.

        Raises:
            AlreadyExistsError: it is there.
        """
        group = LogGroup(caller.account_id, name)
        if self._store.has_group(group) or not self._store.make_group(group, _now_ms()):
            raise AlreadyExistsError("The specified log group already exists")

    async def delete_group(self, caller: Caller, name: str) -> None:
        """Delete a group: its events go with it; what is written later makes it anew.

        Raises:
            NotFoundError: there is no such group.
        """
        await in_thread(self._store.remove, self._find_group(caller, name))

    async def delete_stream(self, caller: Caller, group_name: str, stream: str) -> None:
        """Delete a stream with its events.

        Raises:
            NotFoundError: there is no such group, or no such stream in it.
        """
        group = self._find_group(caller, group_name)
        self._check_stream(group, stream)
        await in_thread(self._store.remove, group, stream)

    def set_retention(self, caller: Caller, name: str, days: int | None) -> None:
        """Say for how many days the events of a group are kept; None for as long as the server's setting says.

        Raises:
            ValidationError: AWS does not take that many days.
            NotFoundError: there is no such group.
        """
        if days is not None and days not in RETENTION_DAYS:
            allowed = ", ".join(map(str, RETENTION_DAYS))
            raise ValidationError(f"Invalid retention value {days}. Valid values are: [{allowed}]")
        group = self._find_group(caller, name)
        self._store.make_group(group, _now_ms())  # it may be there by its events alone
        self._store.set_retention(group, days)

    async def read_events(self, caller: Caller, asked: ReadEvents) -> EventPage:
        """Return events of one stream, in either direction; the same token again means that there is no more yet.

        Raises:
            NotFoundError: there is no such group or stream.
            ValidationError: the token is not one of this list's.
        """
        group = self._find_group(caller, asked.group)
        self._check_stream(group, asked.stream)
        limit, token = min(asked.page.limit, PAGE_EVENTS), asked.page.token
        forward, place = (asked.from_head, None) if token is None else self._open_events(token)
        after, before = (place or 0, None) if forward else (0, place)
        events, _ = await in_thread(
            self._store.page, group, [asked.stream], after, limit, asked.start_ms, asked.end_ms, before,
            newest=not forward,
        )  # fmt: skip
        first, last = (events[0].id, events[-1].id) if events else _edges(forward=forward, place=place)
        return EventPage(
            events, self._page_tokens.seal(_READ, ["f", last]), self._page_tokens.seal(_READ, ["b", first])
        )

    async def read_newer(
        self, caller: Caller, group: str, streams: Sequence[str], after: int | None, limit: int
    ) -> list[LogEvent]:
        """Return events of streams in the order they came; none where there is no such group or stream yet.

        Args:
            caller: whose group.
            group: its name.
            streams: their names.
            after: those after the event of this id; None for the newest.
            limit: so many at most.
        """
        place = LogGroup(caller.account_id, group)
        events, _ = await in_thread(
            self._store.page, place, list(streams), after or 0, limit, None, None, None, newest=after is None
        )
        return events

    def _open_events(self, token: str) -> tuple[bool, int]:
        direction, place = self._page_tokens.open(_READ, token)
        return direction == "f", int(place)

    async def filter_events(self, caller: Caller, asked: FilterEvents) -> Page[LogEvent]:
        """Return events of a group; a page may have fewer of them than there are, or none.

        Raises:
            NotFoundError: there is no such group.
            ValidationError: of the pattern, the streams or the token.
        """
        group = self._find_group(caller, asked.group)
        matches = compile_log_pattern(asked.pattern)
        streams = await self._find_streams(group, asked)
        limit, token = min(asked.page.limit, PAGE_EVENTS), asked.page.token
        after = 0 if token is None else int(self._page_tokens.open(_FILTER, token)[0])
        scanned, more = await in_thread(
            self._store.page, group, streams, after, PAGE_EVENTS, asked.start_ms, asked.end_ms
        )
        found = await in_thread(lambda: [event for event in scanned if matches(event.message)])
        page, last = found[:limit], scanned[-1].id if scanned else 0
        if len(found) > limit:
            more, last = True, page[-1].id
        return Page(page, self._page_tokens.seal(_FILTER, [last]) if more else None)

    async def _find_streams(self, group: LogGroup, asked: FilterEvents) -> Sequence[str] | None:
        if asked.stream_prefix is None:
            return asked.streams
        if asked.streams is not None:
            raise ValidationError("logStreamNames and logStreamNamePrefix cannot be given together")
        return [stream.name for stream in await in_thread(self._store.streams, group, asked.stream_prefix)]

    def _cut(self, name: str, items: Sequence[T], asked: PageRequest) -> Page[T]:
        return cut_page(self._page_tokens, name, items, PageRequest(min(asked.limit, PAGE_NAMES), asked.token))

    def _find_group(self, caller: Caller, name: str) -> LogGroup:
        group = LogGroup(caller.account_id, name)
        if not self._store.has_group(group):
            raise NotFoundError("The specified log group does not exist.")
        return group

    def _check_stream(self, group: LogGroup, stream: str) -> None:
        if not self._store.events(group, [stream], 0, 1):
            raise NotFoundError("The specified log stream does not exist.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _edges(*, forward: bool, place: int | None) -> tuple[int, int]:
    """Return where a page without events begins and ends: the token that led there leads there again."""
    if place is None:
        return (1, 0) if forward else (0, 0)
    return (place + 1, place) if forward else (place, place - 1)
