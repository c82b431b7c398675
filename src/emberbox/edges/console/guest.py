"""What the page does inside a microVM: a terminal and files, by the data plane that shell tokens lead to.

Whoever may have a shell token may do it, and the microVM must let shells in: the operation that makes such tokens says
so, and leaves its record.
"""

from __future__ import annotations

import asyncio
import posixpath
import stat
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from emberbox.edges.console.sessions import Session
from emberbox.edges.console.visit import (
    RefusedError,
    check_csrf,
    check_origin,
    get_session,
    make_caller,
    parts_of,
)
from emberbox.edges.sandboxes.entries import LIST, NOT_A_DIRECTORY, NOT_THERE, Entry, read_entries
from emberbox.guest.streams import STDERR
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import GuestError
from emberbox.time_limits import limit_s

LISTING_BYTES_MAX: Final = 2 << 20
ENTRIES_MAX: Final = 2000
PATH_BYTES_MAX: Final = 4095
_LISTS_WITHIN_S: Final = limit_s(30.0)
_ERRORS_MAX: Final = 500
_TOKEN_MINUTES: Final = 1  # the token itself is thrown away
_LOOKS_EVERY_S: Final = 5.0


async def _let_in(connection: HTTPConnection, session: Session) -> str:
    """Return the id of the microVM that the path names, when the session may have a shell there.

    Raises:
        RefusedError: it may not, or there are none.
    """
    microvm_id = str(connection.path_params["microvm_id"])
    asked = {"microvmIdentifier": microvm_id, "expirationInMinutes": _TOKEN_MINUTES}
    caller, parts = make_caller(connection, session), parts_of(connection)
    agent = connection.headers.get("user-agent", "")
    status, told = await parts.calls.call(caller, "CreateMicrovmShellAuthToken", asked, agent)
    if status >= 400:
        raise RefusedError(status, told["code"], told["message"])
    return microvm_id


# --- the terminal


async def serve_shell(websocket: WebSocket) -> None:
    """Serve a terminal: AWS's frames (edges/gateway/data_plane/shell.py).

    Raises:
        RefusedError: it is refused.
    """
    check_origin(websocket, needed=True)
    session = get_session(websocket)
    microvm_id = await _let_in(websocket, session)
    parts = parts_of(websocket)

    async def receive() -> Message:
        message = await _while_it_lasts(websocket, session)
        endpoint = parts.directory.find(microvm_id)
        if endpoint is not None and message["type"] == "websocket.receive":
            parts.sessions.note_use(session)
            endpoint.note_bytes(from_client=True)
        return message

    async def send(message: Message) -> None:
        endpoint = parts.directory.find(microvm_id)
        if endpoint is not None and message["type"] == "websocket.send":
            endpoint.note_bytes(from_client=False)
        await websocket._send(message)

    scope = _inner(websocket.scope, "/shell")
    await parts.data_plane(microvm_id)(scope, receive, send)


async def _while_it_lasts(websocket: WebSocket, session: Session) -> Message:
    """Return what the page sends; that it has gone, once its session has ended."""
    receiving = asyncio.ensure_future(websocket._receive())
    try:
        while parts_of(websocket).sessions.credential(session) is not None:
            done, _ = await asyncio.wait((receiving,), timeout=_LOOKS_EVERY_S)
            if done:
                return receiving.result()
        return {"type": "websocket.disconnect", "code": 1008}
    finally:
        receiving.cancel()


# --- files


class FileContent:
    """The ASGI application for a file's bytes: `GET` fetches them, `PUT` writes them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on to the data plane, when it may pass."""
        request = Request(scope, receive, send)
        session = get_session(request)
        if request.method == "PUT":
            check_csrf(request, session)
        else:
            check_origin(request, needed=False)
        path = _path_of(request)
        microvm_id = await _let_in(request, session)

        async def as_download(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_download_headers(path, message["status"])]}
            await send(message)

        inner = _inner(scope, "/files")
        await parts_of(request).data_plane(microvm_id)(inner, receive, as_download)


def _download_headers(path: str, status: int) -> list[tuple[bytes, bytes]]:
    """A guest's file is saved and never shown: it could be a page."""
    if status != 200:
        return []
    name = quote(posixpath.basename(path.rstrip("/")) or "files", safe="")
    return [(b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode())]


async def list_files(request: Request) -> Response:
    """Tell what is in a directory.

    Raises:
        RefusedError: it cannot be read.
    """
    session = get_session(request)
    check_origin(request, needed=False)
    path = _path_of(request)
    microvm_id = await _let_in(request, session)
    endpoint = parts_of(request).directory.find(microvm_id)
    if endpoint is None:
        raise RefusedError(409, "Ended", f"{microvm_id} has ended.")
    try:
        command = await endpoint.open_command(Command(("/bin/sh", "-c", LIST, "sh", path, "1")))
        exit_code, output, errors = await _gather(command)
    except (Unreachable, GuestError) as error:
        raise RefusedError(502, "Unreachable", str(error)) from error
    endpoint.note_bytes(from_client=False)
    if exit_code == NOT_THERE:
        raise RefusedError(404, "NotThere", f"There is no {path}.")
    if exit_code == NOT_A_DIRECTORY:
        raise RefusedError(409, "NoDirectory", f"{path} is no directory.")
    try:
        found = read_entries(output)
    except (ValueError, IndexError, OverflowError):
        text = errors or "The image needs sh, find and stat for that."
        raise RefusedError(502, "NotListed", f"{path} cannot be listed. {text}") from None
    return JSONResponse({"path": path, "entries": _show(found), "isCut": len(found) > ENTRIES_MAX})


async def _gather(command: GuestCommand) -> tuple[int, bytes, str]:
    """Return how a command ended, what it wrote, and the beginning of its errors.

    Raises:
        RefusedError: it writes too much or takes too long.
        GuestError: the microVM stopped meanwhile.
    """
    output, errors = bytearray(), bytearray()
    try:
        command.end_input()
        async with asyncio.timeout(_LISTS_WITHIN_S):
            while (received := await command.read()) is not None:
                kept = errors if received[0] == STDERR else output
                kept += received[1]
                del errors[_ERRORS_MAX:]
                if len(output) > LISTING_BYTES_MAX:
                    raise RefusedError(502, "TooMuch", "There are too many files in this directory to show them.")
        return command.exit_code, bytes(output), errors.decode(errors="replace").strip()
    except TimeoutError:
        raise RefusedError(504, "TooSlow", f"The microVM did not answer within {_LISTS_WITHIN_S:g} s.") from None
    finally:
        command.close()


def _show(entries: Iterable[Entry]) -> list[dict[str, Any]]:  # Any: texts, numbers and truth values
    return [
        {
            "name": posixpath.basename(entry.path),
            "isDirectory": stat.S_ISDIR(entry.target_mode if entry.target is not None else entry.mode),
            "isFile": stat.S_ISREG(entry.target_mode if entry.target is not None else entry.mode),
            "target": entry.target,
            "size": entry.size,
            "permissions": stat.filemode(entry.mode),
            "owner": entry.owner,
            "group": entry.group,
            "modified": float(entry.modified),
        }
        for entry in list(entries)[:ENTRIES_MAX]
    ]


def _path_of(request: Request) -> str:
    path = request.query_params.get("path", "")
    if not path.startswith("/") or "\0" in path or len(path.encode(errors="replace")) > PATH_BYTES_MAX:
        raise RefusedError(400, "BadPath", f"path must be absolute and have at most {PATH_BYTES_MAX} bytes.")
    return path


def _inner(scope: Scope, path: str) -> Scope:
    """Return a request as the data plane knows it: nothing of the session goes with it."""
    kept = (b"content-length", b"content-type", b"transfer-encoding", b"accept", b"host")
    headers = [(name, value) for name, value in scope["headers"] if name in kept]
    return {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "headers": headers, "subprotocols": []}
