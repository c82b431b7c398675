"""Cutting a stream of bytes into lines of text for a log."""

from __future__ import annotations

from collections.abc import Callable

LINE_BYTES_MAX = 16 * 1024


class LineSplitter:
    """Collects bytes and passes on whole lines; a line longer than 16 KiB is cut.

    Args:
        on_line: called with each line, without its end.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_BYTES_MAX:
            lines.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        for line in lines:
            self._on_line(line.decode(errors="replace").rstrip("\r"))

    def finish(self) -> None:
        """Pass on what stands behind the last line's end."""
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))
            self._rest = b""
