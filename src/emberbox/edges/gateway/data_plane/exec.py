"""Commands beyond the AWS service: separate output and error streams, input, and the exit code.

Over a WebSocket with the subprotocol `emberbox.exec.v1`:

    client   text    ExecRequest, first
    client   binary  bytes for the input
    client   text    {"type":"eof"}, {"type":"signal","signal":15}, {"type":"resize","cols":120,"rows":40}
    server   binary  one byte, 1 for output and 2 for error output, then the bytes
    server   text    {"type":"exit","exitCode":0}, then close 1000; or {"type":"error","message":"..."}, then close 1008

Over HTTP: ExecRequest in, lines of JSON out. openapi.json has the schemas, and requests are held against them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from emberbox.edges.gateway.data_plane.commands import Message, RefusedError, close, converse, open_command
from emberbox.edges.gateway.data_plane.openapi import check
from emberbox.edges.gateway.data_plane.shell import read_resize
from emberbox.guest.protocol import Command
from emberbox.guest.streams import STDERR, GuestCommand
from emberbox.model.errors import GuestError

EXEC_SUBPROTOCOL: Final = "emberbox.exec.v1"
BODY_BYTES_MAX: Final = 1 << 20
_POLICY_VIOLATION: Final = 1008


def read_request(text: str | bytes) -> tuple[Command, bytes]:
    """Return the command and its input that an ExecRequest describes.

    Raises:
        RefusedError: it is not one; the text names the member.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the request is not JSON, or too deep") from None
    check(content, "ExecRequest")
    command = Command(
        arguments=tuple(content["command"]),
        environment=tuple(content.get("environmentVariables", {}).items()),
        directory=content.get("workingDirectory"),
        user=content.get("user"),
        terminal=content.get("terminal", False),
    )
    return command, content.get("input", "").encode()


# --- over HTTP


async def post_exec(request: Request) -> Response:
    """Run a command; the answer's lines come as the command writes.

    Raises:
        RefusedError: the request is malformed, or the command cannot be started.
    """
    command, data = read_request(await _read_body(request))
    running = await open_command(request, command)
    return StreamingResponse(_run(running, data), media_type="application/x-ndjson")


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise RefusedError(413, f"the request has more than {BODY_BYTES_MAX} bytes; use a WebSocket")
    return bytes(body)


async def _run(command: GuestCommand, data: bytes) -> AsyncIterator[bytes]:
    """Yield the lines; the command is hung up when nobody takes them any more."""
    writing = asyncio.create_task(_feed(command, data))  # beside the reading: the command may want both at once
    try:
        while (received := await command.read()) is not None:
            which, written = received
            name = "stderr" if which == STDERR else "stdout"
            yield _line({"type": name, "data": base64.b64encode(written).decode()})
        yield _line({"type": "exit", "exitCode": command.exit_code})
    except GuestError as error:
        yield _line({"type": "error", "message": str(error)})
    finally:
        writing.cancel()
        command.close()


async def _feed(command: GuestCommand, data: bytes) -> None:
    with contextlib.suppress(GuestError):  # it has ended without reading all
        await command.write(data)
        command.end_input()


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


# --- over a WebSocket


async def serve_exec(websocket: WebSocket) -> None:
    """Run the command that the client's first message describes."""
    await websocket.accept(EXEC_SUBPROTOCOL)
    try:
        command, data = read_request(await _first_text(websocket))
        running = await open_command(websocket, command)
    except RefusedError as error:
        await websocket.send_json({"type": "error", "message": error.message})
        await close(websocket, _POLICY_VIOLATION, error.message)
        return

    async def take(message: Message) -> None:
        if message.get("bytes") is not None:
            await running.write(message["bytes"])
        else:
            _control(running, message.get("text") or "")

    if await converse(websocket, running, take, lambda which, written: bytes([which]) + written, first=data):
        await websocket.send_json({"type": "exit", "exitCode": running.exit_code})
        await close(websocket, reason="command exited")


async def _first_text(websocket: WebSocket) -> str:
    message = await websocket.receive()
    text = message.get("text")
    if text is None:
        raise RefusedError(400, "the first message must be text: an ExecRequest")
    return str(text)


def _control(command: GuestCommand, text: str) -> None:
    """Do what a text of the client's asks for; unknown ones are from a newer client, and ignored."""
    size = read_resize(text)
    if size is not None:
        command.resize(*size)
        return
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    match content:
        case {"type": "eof"}:
            command.end_input()
        case {"type": "signal", "signal": int(number)} if 1 <= number <= 64:
            command.signal(number)
