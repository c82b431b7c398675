"""What differs between the two kinds of API beyond `await`: this is the one for asyncio.

`_sync/platform.py` has the same names for threads; all other modules of `_sync` are made from those here
(sdk/make_sync.py).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import httpx2
from websockets.asyncio.client import ClientConnection as WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

__all__ = [
    "ConnectionClosed",
    "HttpClient",
    "Lock",
    "WebSocket",
    "beside",
    "connect",
    "in_thread",
    "read_in_thread",
    "receive",
    "sleep",
    "time_limit",
]

HttpClient = httpx2.AsyncClient
Lock = asyncio.Lock
sleep = asyncio.sleep

STOP_POLL_S = 0.05

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Do what blocks, such as reading a disk, without standing in others' way."""
    return await asyncio.to_thread(work)


async def read_in_thread(pieces: AsyncIterator[bytes], work: Callable[[Callable[[], bytes]], T]) -> T:
    """Do what blocks with a stream: `work` is given what returns its next piece, and an empty one at the end.

    It has ended when this returns, also when this is cancelled: then it is told so at the next piece.
    """
    loop = asyncio.get_running_loop()
    waiting: list[concurrent.futures.Future[bytes]] = []

    async def following() -> bytes:
        return await anext(pieces, b"")

    def more() -> bytes:
        waiting[:] = [asyncio.run_coroutine_threadsafe(following(), loop)]
        return waiting[0].result()

    task = asyncio.ensure_future(asyncio.to_thread(work, more))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            for future in waiting:
                future.cancel()
            await asyncio.wait({task}, timeout=STOP_POLL_S)
        raise
    finally:
        if task.done() and not task.cancelled():
            task.exception()  # it is told, or of no interest any more


async def receive(websocket: WebSocket, timeout_s: float | None) -> bytes | str:
    """Return the next message.

    Raises:
        TimeoutError: none came in time.
    """
    async with asyncio.timeout(timeout_s):
        return await websocket.recv()


@contextlib.asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[Callable[[], None]]:
    """Bound a block that reads a stream; the block calls what it is given for each piece that it has read.

    Raises:
        TimeoutError: it took longer.
    """
    async with asyncio.timeout(seconds):
        yield lambda: None


@contextlib.asynccontextmanager
async def beside(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Do something while the block runs; what is left of it when the block ends is dropped."""
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
