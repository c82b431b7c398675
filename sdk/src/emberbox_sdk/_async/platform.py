"""What differs between the two kinds of API beyond `await`: this is the one for asyncio.

`_sync/platform.py` has the same names for threads; all other modules of `_sync` are made from those here
(sdk/make_sync.py).
"""

from __future__ import annotations

import asyncio
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
    "receive",
    "sleep",
    "time_limit",
]

HttpClient = httpx2.AsyncClient
Lock = asyncio.Lock
sleep = asyncio.sleep

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Do what blocks, such as reading a disk, without standing in others' way."""
    return await asyncio.to_thread(work)


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
