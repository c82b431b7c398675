"""What is asked of logs. Groups are named by their names; times are in milliseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.control.requests.paging import PageRequest


@dataclass(frozen=True, slots=True)
class ListGroups:
    """Asks for a page of the groups whose name begins with `prefix` and has `part` in it, in whatever case."""

    prefix: str
    part: str
    page: PageRequest


@dataclass(frozen=True, slots=True)
class ListStreams:
    """Asks for a page of a group's streams.

    Args:
        group: the group.
        prefix: what their names begin with.
        by_last_event: in the order of their last events, not of their names.
        descending: the other way round.
        page: which page.
    """

    group: str
    prefix: str
    by_last_event: bool
    descending: bool
    page: PageRequest


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Asks for events of one stream.

    Args:
        group: the group.
        stream: the stream.
        start_ms: only events at or after this time.
        end_ms: only events before this time.
        from_head: begin with the oldest, where there is no token.
        page: so many at most; the token says in which direction it goes on.
    """

    group: str
    stream: str
    start_ms: int | None
    end_ms: int | None
    from_head: bool
    page: PageRequest


@dataclass(frozen=True, slots=True)
class FilterEvents:
    """Asks for events of a group.

    Args:
        group: the group.
        pattern: what their texts match (`patterns`).
        streams: only of these; None for all.
        stream_prefix: only of those whose name begins so; not together with `streams`.
        start_ms: only events at or after this time.
        end_ms: only events before this time.
        page: which page.
    """

    group: str
    pattern: str
    streams: tuple[str, ...] | None
    stream_prefix: str | None
    start_ms: int | None
    end_ms: int | None
    page: PageRequest
