"""Log lines on their way to the store: gathered for a moment, then written together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from emberbox.control.requests.batches import Batches
from emberbox.model.errors import HostError
from emberbox.model.records import LogGroup
from emberbox.store.logs import LogStore

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.2
PENDING_LINES_MAX = 5000
PENDING_BYTES_MAX = 1 << 20
"""Who brings a stream more waits; at most twice as much is held."""
STUCK_AFTER_S = 10.0
"""A log that has taken nothing for so long holds up no application any more."""
_LOOK_AGAIN_S = 1.0
_TRIM_EVERY_LINES = 10_000
_TRIM_EVERY_BYTES = 128 << 20
_COUNTED_STREAMS = 1024

Stream = tuple[LogGroup, str]


@dataclass
class _Pending:
    """The lines of one stream that are not stored yet, oldest first: (milliseconds since 1970, text)."""

    lines: deque[tuple[int, str]] = field(default_factory=deque)
    size: int = 0
    being_stored: int = 0
    dropped: int = 0
    stored: asyncio.Event = field(default_factory=asyncio.Event)

    def is_full(self, times: int = 1) -> bool:
        return len(self.lines) >= times * PENDING_LINES_MAX or self.size >= times * PENDING_BYTES_MAX

    def add(self, line: str) -> None:
        while self.is_full(2):
            self._remove_oldest()
            self.dropped += 1
        line = line or " "  # no event is empty (Logs API model)
        self.size += sys.getsizeof(line)
        self.lines.append((_now_ms(), line))

    def batch(self) -> list[tuple[int, str]]:
        """Return what is to be stored now; before it, that something is missing."""
        self.being_stored = len(self.lines)
        notice = f"[{self.dropped} lines were dropped here: the log could not be written for {STUCK_AFTER_S:g} s]"
        return [*([(_now_ms(), notice)] if self.dropped else []), *self.lines]

    def forget_batch(self, dropped: int) -> None:
        """Take out what has been stored; `dropped` lines of what is missing have been told."""
        self.dropped -= dropped
        while self.being_stored:
            self._remove_oldest()
        self.stored.set()

    def _remove_oldest(self) -> None:
        self.size -= sys.getsizeof(self.lines.popleft()[1])
        self.being_stored = max(0, self.being_stored - 1)


class LogWriter:
    """The `LogSink` of a server: takes lines as quickly as they can be stored.

    An application that writes more waits: its lines are not cut. But one that waits for a log that is stuck (a full
    disk) would stand still for good, so after some seconds it goes on, and its oldest lines are dropped, which the log
    says when it can be written again.

    Args:
        store: where events go.
        max_bytes: what all events may take; None for no limit.
    """

    def __init__(self, store: LogStore, max_bytes: int | None = None) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._pending: dict[Stream, _Pending] = {}
        self._trying_since: float | None = None
        self._written: OrderedDict[Stream, int] = OrderedDict()
        self._written_bytes = 0
        self._batches = Batches(self._flush, FLUSH_INTERVAL_S)

    def start(self) -> None:
        """Begin to write."""
        self._batches.start()

    def stream(self, group: LogGroup, name: str) -> WrittenStream:
        """Return the stream of a group; it is made with its first line."""
        return WrittenStream(self, (group, name))

    def write(self, key: Stream, lines: Sequence[str]) -> None:
        """Add lines to a stream. Waits for nothing: where twice too many are there, the oldest go."""
        if lines:
            pending = self._pending.setdefault(key, _Pending())
            for line in lines:
                pending.add(line)
            self._batches.ask()

    async def wait_for_room(self, key: Stream) -> None:
        """Wait while too many lines of a stream are not stored yet, unless the log is stuck."""
        while (pending := self._pending.get(key)) is not None and pending.is_full() and not self._is_stuck():
            pending.stored.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await pending.stored.wait()

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._batches.close()

    def _is_stuck(self) -> bool:
        return self._trying_since is not None and time.monotonic() - self._trying_since > STUCK_AFTER_S

    async def _flush(self) -> None:
        for key, pending in list(self._pending.items()):
            told, lines = pending.dropped, pending.batch()
            if self._trying_since is None:
                self._trying_since = time.monotonic()
            try:
                await asyncio.to_thread(self._store_lines, key, lines)
            except HostError as error:
                pending.being_stored = 0
                log.error("log lines of %s cannot be stored yet: %s", key[0].name, error)
                self._batches.ask()
                return  # nor can the others
            self._trying_since = None
            pending.forget_batch(told)
            if not pending.lines and not pending.dropped:
                del self._pending[key]

    def _store_lines(self, key: Stream, lines: Sequence[tuple[int, str]]) -> None:
        self._store.append(*key, lines)
        self._written_bytes += sum(len(text) for _, text in lines)
        self._written[key] = self._written.get(key, 0) + len(lines)
        self._written.move_to_end(key)
        if self._written[key] > _TRIM_EVERY_LINES:
            del self._written[key]
            self._store.trim(*key)
        elif len(self._written) > _COUNTED_STREAMS:
            oldest, _ = self._written.popitem(last=False)
            self._store.trim(*oldest)
        if self._max_bytes is not None and self._written_bytes > _TRIM_EVERY_BYTES:
            self._written_bytes = 0
            self._store.forget_beyond(self._max_bytes)


@dataclass(frozen=True, slots=True)
class WrittenStream:
    """One stream of a log group; made by `LogWriter.stream`."""

    _writer: LogWriter
    _key: Stream

    def write(self, line: str) -> None:
        """Add a line; waits for nothing."""
        self._writer.write(self._key, [line])

    def write_all(self, lines: Sequence[str]) -> None:
        """Add lines; waits for nothing."""
        self._writer.write(self._key, lines)

    async def wait_for_room(self) -> None:
        """Wait while too many lines are not stored yet."""
        await self._writer.wait_for_room(self._key)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
