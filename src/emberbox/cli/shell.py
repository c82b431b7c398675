"""`emberbox shell`: a terminal in a microVM, through the same WebSocket as with AWS."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from emberbox.cli import terminal
from emberbox.cli.context import get_server
from emberbox.cli.data_plane import DataPlane
from emberbox.model.errors import HostError
from emberbox.settings import load

NORMAL = 1000


def shell(
    microvm: Annotated[str, typer.Argument(metavar="MICROVM", help="A microVM's id; run with SHELL_INGRESS.")],
) -> None:
    """Open a shell in a microVM, as the application's user and in its directory."""
    plane = DataPlane(get_server(load().home), microvm)
    asyncio.run(_converse(plane))


async def _converse(plane: DataPlane) -> None:
    async with plane.open_websocket() as websocket:
        with terminal.raw_terminal(), terminal.follow_size(websocket.send):
            terminal.pass_input(websocket.send, "\x04")
            await _show(websocket)
    check_closing(websocket)


async def _show(websocket: ClientConnection) -> None:
    try:
        async for message in websocket:
            if isinstance(message, bytes):
                terminal.write_all(terminal.STDOUT, message)
            elif json.loads(message).get("type") != "session_init":
                raise HostError("the gateway speaks another protocol; use the `emberbox` of the server's release")
    except ConnectionClosed:
        pass  # the code says why


def check_closing(websocket: ClientConnection) -> None:
    """See that a session ended because it was over.

    Raises:
        HostError: it was cut off; the text says why.
    """
    code, reason = websocket.close_code, websocket.close_reason
    if code != NORMAL:
        raise HostError(reason or f"the connection to the microVM broke (WebSocket close code {code})")
