"""The application's output between the guest's agent and a log that may be slower."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from emberbox.guest.chunks import Chunks
from emberbox.guest.protocol import OUTPUT_WINDOW_BYTES

log = logging.getLogger(__name__)

HELD_BYTES_MAX = OUTPUT_WINDOW_BYTES + (1 << 20)
"""The window, and what the pipes may hold when the application is frozen or has ended: that comes without asking."""
STEP_BYTES = 8 << 10
"""Small steps: who writes a line to a full pipe waits until those before it have written theirs."""
FINISH_TIMEOUT_S = 2.0


class OutputListener(Protocol):
    """Where output goes: `which` is `STDOUT` or `STDERR`."""

    async def take(self, which: int, data: bytes) -> None:
        """Take what was written; returns when there is room for more."""
        ...

    def keep(self, which: int, data: bytes) -> None:
        """Take what was written at the end, to be dealt with later: nobody waits."""
        ...


class DropOutput:
    """For an application that says nothing, or that nobody listens to."""

    async def take(self, which: int, data: bytes) -> None:
        """Drop it."""

    def keep(self, which: int, data: bytes) -> None:
        """Drop it."""


class Output:
    """Hands output to a listener step by step, and says what of it was taken.

    Args:
        listener: takes it.
        grant: called with the number of bytes that were taken: so many more may come.
    """

    def __init__(self, listener: OutputListener, grant: Callable[[int], None]) -> None:
        self.listener = listener
        self._grant = grant
        self._chunks = Chunks()
        self._came = asyncio.Event()
        self._taken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._deliver())

    def put(self, which: int, data: bytes) -> None:
        """Add what has come."""
        self._chunks.put(which, data)
        self._idle.clear()
        self._came.set()

    async def wait_for_room(self) -> None:
        """Wait until no more is held than a guest that keeps to its window can send."""
        while self._chunks.bytes > HELD_BYTES_MAX:
            self._taken.clear()
            await self._taken.wait()

    async def _deliver(self) -> None:
        ungranted = 0
        while True:
            await self._came.wait()
            self._came.clear()
            while (piece := self._chunks.take(STEP_BYTES)) is not None:
                which, data = piece
                try:
                    await self.listener.take(which, data)
                except Exception:
                    log.exception("%d bytes of output were lost", len(data))
                self._taken.set()
                ungranted += len(data)
                if ungranted >= STEP_BYTES or not self._chunks:
                    self._grant(ungranted)
                    ungranted = 0
            self._idle.set()

    async def close(self) -> None:
        """Deliver what has come. A log that is slow holds up no suspend: it is given the rest to deal with later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while (piece := self._chunks.take(STEP_BYTES)) is not None:
            self.listener.keep(*piece)
