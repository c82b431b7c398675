"""Builds that wait for what is made once: each is told how far it is, whoever has begun it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from emberbox.images.containers import LogLine


class Announcer:
    """Passes on what the one who makes it says to all who wait."""

    def __init__(self) -> None:
        self._listeners: list[LogLine] = []
        self._last = ""

    @contextlib.contextmanager
    def heard_by(self, listener: LogLine) -> Iterator[LogLine]:
        """Let somebody hear what is said for as long as the block lasts, the last that was said to others at first.

        Returns:
            what says a line to all.
        """
        if self._last:
            listener(self._last)
        self._listeners.append(listener)
        try:
            yield self._say
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self._last = ""

    def _say(self, line: str) -> None:
        self._last = line
        for listener in self._listeners:
            listener(line)
