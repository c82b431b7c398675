"""Writing in batches beside whoever has something to write: soon, one batch at a time, and once more at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Batches:
    """Calls `flush` soon after `ask`, and not again before some time has passed.

    Args:
        flush: writes what is pending; it raises nothing.
        interval_s: the least time between two batches, in seconds.
    """

    def __init__(self, flush: Callable[[], Awaitable[None]], interval_s: float) -> None:
        self._flush = flush
        self._interval_s = interval_s
        self._wanted = asyncio.Event()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    def ask(self) -> None:
        """Let a batch be written."""
        self._wanted.set()

    async def close(self) -> None:
        """Let a batch that is being written come to its end, write what is left and stop."""
        self._ending.set()
        self._wanted.set()
        if self._task is not None:
            await self._task
        await self._flush()

    async def _run(self) -> None:
        while not self._ending.is_set():
            await self._wanted.wait()
            self._wanted.clear()
            await self._flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._interval_s)
