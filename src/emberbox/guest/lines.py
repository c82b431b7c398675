"""Cutting a stream of bytes into lines of text for a log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

EVENT_OVERHEAD_BYTES = 26
LINE_BYTES_MAX = (1 << 20) - EVENT_OVERHEAD_BYTES
"""An event has at most 1 MB, and 26 bytes count for itself (CloudWatch Logs API reference, PutLogEvents)."""

_REPLACED_BYTES = len("\ufffd".encode())
_LINES_AT_ONCE = 500
_LAST_LINES_MAX = 2500
_KEPT_BYTES_MAX = 4 << 20


class LineSplitter:
    """Collects bytes and hands out lines, some at a time; one that is longer than an event may be comes in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Add bytes; `take` then hands out the lines that are whole, until there are none."""
        self._buffer += data

    def take(self, most: int) -> list[str]:
        """Return the next lines that are whole, without their ends: at most so many."""
        lines: list[str] = []
        start = 0
        while len(lines) < most:
            end = self._buffer.find(b"\n", max(start, self._searched))
            if (len(self._buffer) if end < 0 else end) - start > LINE_BYTES_MAX:
                end = self._find_cut(start)
                lines += _decode(self._buffer[start:end])
                start = end
            elif end < 0:
                self._searched = len(self._buffer)
                break
            else:
                lines += _decode(self._buffer[start:end].rstrip(b"\r"))
                start = end + 1
        del self._buffer[:start]
        self._searched = max(0, self._searched - start)
        return lines

    def __len__(self) -> int:
        """How many bytes are not handed out yet."""
        return len(self._buffer)

    def _find_cut(self, start: int) -> int:
        """Return where a long line is cut: before a character of several bytes, not in it."""
        end = start + LINE_BYTES_MAX
        for before in range(end, end - 4, -1):
            if self._buffer[before] & 0xC0 != 0x80:
                return before
        return end

    def finish(self) -> list[str]:
        """Return what is left, a last line without its end too; of what nobody took in time only so much."""
        lines = self.take(_LAST_LINES_MAX)
        if len(lines) == _LAST_LINES_MAX and self._buffer:
            lines.append(f"[{len(self._buffer)} bytes of output were dropped here: the log was too slow at the end]")
        elif self._buffer:
            lines += _decode(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return lines


def _decode(line: bytearray) -> list[str]:
    """Return a line as text; bytes that are none become longer, so a long line of such comes in pieces."""
    text = line.decode(errors="replace")
    if len(text) * _REPLACED_BYTES <= LINE_BYTES_MAX or len(text.encode()) <= LINE_BYTES_MAX:
        return [text]
    length = LINE_BYTES_MAX // _REPLACED_BYTES
    return [text[start : start + length] for start in range(0, len(text), length)]


class LineLog(Protocol):
    """Takes lines of one stream."""

    async def wait_for_room(self) -> None:
        """Wait while there are too many that are not stored yet."""
        ...

    def write_all(self, lines: Sequence[str]) -> None:
        """Add lines; waits for nothing."""
        ...


class OutputLines:
    """Makes lines of what an application writes to its output and to its error output.

    Args:
        log: takes the lines; while it has no room for more, the application waits.
    """

    def __init__(self, log: LineLog) -> None:
        self._log = log
        self._splitters = (LineSplitter(), LineSplitter())

    async def take(self, which: int, data: bytes) -> None:
        """Take what was written to output (1) or error output (2); others have their turn between the lines.

        Who cancels this loses nothing: what is not in the log yet comes with what is taken next.
        """
        splitter = self._splitters[which - 1]
        splitter.feed(data)
        await self._log.wait_for_room()
        while lines := splitter.take(_LINES_AT_ONCE):
            self._log.write_all(lines)
            await asyncio.sleep(0)
            await self._log.wait_for_room()

    def keep(self, which: int, data: bytes) -> None:
        """Take what was written at the end; its lines come with the next that are taken, or at the finish."""
        if len(self._splitters[which - 1]) < _KEPT_BYTES_MAX:
            self._splitters[which - 1].feed(data)

    def finish(self) -> None:
        """Pass on what is left of both; no more is taken."""
        for splitter in self._splitters:
            self._log.write_all(splitter.finish())
