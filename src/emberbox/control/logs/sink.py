"""Where output goes, as those who write it know it: streams by name, and nothing of how they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emberbox.model.records import LogGroup


class LogStream(Protocol):
    """One stream of a log group."""

    def write(self, line: str) -> None:
        """Add a line; waits for nothing."""
        ...

    def write_all(self, lines: Sequence[str]) -> None:
        """Add lines; waits for nothing."""
        ...

    async def wait_for_room(self) -> None:
        """Wait while too many lines are not stored yet."""
        ...


class LogSink(Protocol):
    """Takes what applications and builds write."""

    def stream(self, group: LogGroup, name: str) -> LogStream:
        """Return the stream of a group; it is made with its first line."""
        ...


@dataclass(frozen=True, slots=True)
class GroupLog:
    """The streams of one log group."""

    sink: LogSink
    group: LogGroup

    def stream(self, name: str) -> LogStream:
        """Return a stream by its name."""
        return self.sink.stream(self.group, name)
