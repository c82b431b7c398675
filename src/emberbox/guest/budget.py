"""How much one guest may make the host do: a bucket of bytes that fills with time."""

from __future__ import annotations

import asyncio
import time

BYTES_PER_S = 128 << 20
BURST_BYTES = 32 << 20
FRAME_BYTES = 16 << 10
"""What a frame counts beside its payload: about 8,000 empty ones a second take a tenth of a processor."""
TURN_BYTES = 512 << 10
"""After so much the others have their turn."""


class Budget:
    """Counts what comes from one guest; who spends too much waits, and what waits is not read."""

    def __init__(self) -> None:
        self._left = float(BURST_BYTES)
        self._counted_at = time.monotonic()
        self._this_turn = 0

    async def spend(self, payload_bytes: int) -> None:
        """Count a frame. Returns when there is budget again, and lets others have their turn now and then."""
        cost = FRAME_BYTES + payload_bytes
        self._left -= cost
        self._this_turn += cost
        if self._left < 0:
            self._fill()
        if self._left < 0:
            self._this_turn = 0
            await asyncio.sleep(-self._left / BYTES_PER_S)
        elif self._this_turn > TURN_BYTES:
            self._this_turn = 0
            await asyncio.sleep(0)

    def _fill(self) -> None:
        now = time.monotonic()
        self._left = min(BURST_BYTES, self._left + (now - self._counted_at) * BYTES_PER_S)
        self._counted_at = now
