"""What the shell, commands and file copies share: opening a command in a microVM, and a WebSocket in front of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from emberbox.edges.gateway.directory import Directory
from emberbox.edges.gateway.judge.authoriser import MICROVM_HEADER
from emberbox.guest.protocol import Command
from emberbox.guest.streams import GuestCommand
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import EmberboxError, GuestError

BAD_GATEWAY: Final = 502
_NORMAL, _GOING_AWAY = 1000, 1001  # RFC 6455, section 7.4.1

Message = dict[str, Any]
Take = Callable[[Message], Awaitable[None]]
Show = Callable[[int, bytes], bytes]


class RefusedError(EmberboxError):
    """A request that is answered with an error.

    Args:
        status: of the HTTP answer.
        message: the text for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> Response:
        """Return the answer: JSON with a message."""
        return JSONResponse({"message": self.message}, self.status)


async def open_command(connection: HTTPConnection, command: Command) -> GuestCommand:
    """Start a command in the microVM that the authoriser has named for this request.

    Raises:
        RefusedError: it cannot be started.
    """
    directory: Directory = connection.app.state.directory
    microvm_id = connection.headers[MICROVM_HEADER]
    endpoint = directory.find(microvm_id)
    if endpoint is None:
        raise RefusedError(BAD_GATEWAY, f"{microvm_id} has ended")
    try:
        return await endpoint.open_command(command)
    except (Unreachable, GuestError) as error:
        raise RefusedError(BAD_GATEWAY, str(error)) from error


async def converse(
    websocket: WebSocket, command: GuestCommand, take: Take, show: Show, first: bytes = b""
) -> bool:  # fmt: skip
    """Pass what the client sends to a command and the other way round, until one of them ends.

    Args:
        websocket: accepted already.
        command: it is hung up when the client has gone.
        take: gets every message of the client's.
        show: makes a binary message of `STDOUT` or `STDERR` and what was written there.
        first: goes to the command's input before anything of the client's.

    Returns:
        whether the command has ended and the client is still there to be told. A client whose microVM is suspended
        or ends is told here.
    """
    reading = asyncio.create_task(_pass_output(websocket, command, show))
    writing = asyncio.create_task(_pass_input(websocket, command, take, first))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            return False
        reading.result()
    except GuestError as error:
        await close(websocket, _GOING_AWAY, str(error))
        return False
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)
        command.close()
    return True


async def _pass_output(websocket: WebSocket, command: GuestCommand, show: Show) -> None:
    while (received := await command.read()) is not None:
        await websocket.send_bytes(show(*received))


async def _pass_input(websocket: WebSocket, command: GuestCommand, take: Take, first: bytes) -> None:
    """Return when the client has gone. What it sends to a command that has just ended is dropped."""
    with contextlib.suppress(GuestError):
        await command.write(first)
    while (message := await websocket.receive())["type"] == "websocket.receive":
        with contextlib.suppress(GuestError):
            await take(dict(message))


async def close(websocket: WebSocket, code: int = _NORMAL, reason: str = "") -> None:
    """Close a WebSocket that the client may have closed already; a reason has at most 123 bytes."""
    with contextlib.suppress(RuntimeError, OSError):
        await websocket.close(code, reason[:120])
