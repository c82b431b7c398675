"""What the WebSockets of sandboxes have in common: they end with their client, and with a reason."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

_REASON_MAX: Final = 120


async def race(websocket: WebSocket, doing: Coroutine[Any, Any, None]) -> None:
    """Do something until it is done, or the client has gone.

    Raises:
        Exception: what it raised.
    """
    leaving = asyncio.create_task(_wait_for_leave(websocket))
    done = asyncio.create_task(doing)
    try:
        await asyncio.wait((leaving, done), return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            done.result()
    finally:
        leaving.cancel()
        done.cancel()
        await asyncio.gather(leaving, done, return_exceptions=True)


async def _wait_for_leave(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def close(websocket: WebSocket, code: int = 1000, reason: str = "") -> None:
    """Close one, which may be closed already."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(code, reason.encode()[:_REASON_MAX].decode(errors="ignore"))
