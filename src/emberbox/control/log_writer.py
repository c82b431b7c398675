"""Log lines on their way to the store: gathered for a moment, then written together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict

from emberbox.control.batches import Batches
from emberbox.model.errors import HostError
from emberbox.model.records import LogGroup
from emberbox.store.logs import LogStore

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.2
PENDING_LINES_MAX = 5000
PENDING_BYTES_MAX = 1 << 20
_TRIM_EVERY_LINES = 10_000


class LogWriter:
    """Takes lines at any speed and never makes its caller wait.

    What comes faster than it can be stored is dropped, with a line that says how much.

    Args:
        store: where events go.
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._pending: dict[tuple[LogGroup, str], list[tuple[int, str]]] = defaultdict(list)
        self._dropped: dict[tuple[LogGroup, str], int] = defaultdict(int)
        self._written: dict[tuple[LogGroup, str], int] = defaultdict(int)
        self._bytes: dict[tuple[LogGroup, str], int] = defaultdict(int)
        self._batches = Batches(self._flush, FLUSH_INTERVAL_S)

    def start(self) -> None:
        """Begin to write."""
        self._batches.start()

    def write(self, group: LogGroup, stream: str, line: str) -> None:
        """Add a line."""
        key = group, stream
        if len(self._pending[key]) >= PENDING_LINES_MAX or self._bytes[key] >= PENDING_BYTES_MAX:
            self._dropped[key] += 1
            return
        self._bytes[key] += len(line)
        self._pending[key].append((time.time_ns() // 1_000_000, line or " "))  # no event is empty (Logs API model)
        self._batches.ask()

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._batches.close()

    async def _flush(self) -> None:
        pending, self._pending, self._bytes = self._pending, defaultdict(list), defaultdict(int)
        dropped, self._dropped = self._dropped, defaultdict(int)
        for key, count in dropped.items():
            pending[key].append((time.time_ns() // 1_000_000, f"[{count} lines came too fast and were dropped]"))
        for (group, stream), lines in pending.items():
            try:
                await asyncio.to_thread(self._store_lines, group, stream, lines)
            except HostError as error:
                log.error("log lines of %s cannot be stored yet: %s", group.name, error)
                self._pending[group, stream] = (lines + self._pending[group, stream])[-PENDING_LINES_MAX:]
                self._batches.ask()

    def _store_lines(self, group: LogGroup, stream: str, lines: list[tuple[int, str]]) -> None:
        self._store.append(group, stream, lines)
        key = group, stream
        self._written[key] += len(lines)
        if self._written[key] > _TRIM_EVERY_LINES:
            self._written[key] = 0
            self._store.trim(group, stream)
