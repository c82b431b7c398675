"""Bytes on their way through: in the order they came, and few pieces however small they came in."""

from __future__ import annotations

from collections import deque

PIECES_MAX = 256

Received = tuple[int, bytes]
"""Where the bytes come from (`STDOUT` or `STDERR`), and the bytes."""


class Chunks:
    """What has come and was not taken yet.

    A guest may send its window byte by byte, and a piece costs more than its bytes. So once there are many pieces,
    what comes is added to the last one of the same source: the order within a source is kept.
    """

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, bytearray]] = deque()
        self.bytes = 0

    def put(self, source: int, data: bytes) -> None:
        """Add what has come."""
        self.bytes += len(data)
        if len(self._pieces) >= PIECES_MAX:
            last = next((piece for whose, piece in reversed(self._pieces) if whose == source), None)
            if last is not None:
                last += data
                return
        self._pieces.append((source, bytearray(data)))

    def take(self, most: int | None = None) -> Received | None:
        """Return the oldest piece, or the first `most` bytes of it; None where there is none."""
        if not self._pieces:
            return None
        source, piece = self._pieces[0]
        if most is None or len(piece) <= most:
            self._pieces.popleft()
            taken = bytes(piece)
        else:
            taken = bytes(piece[:most])
            del piece[:most]
        self.bytes -= len(taken)
        return source, taken

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._pieces)
