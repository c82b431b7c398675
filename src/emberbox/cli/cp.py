"""`emberbox cp`: files and trees to a microVM, and from one."""

from __future__ import annotations

import contextlib
import http.client
from typing import Annotated
from urllib.parse import urlencode

import typer

from emberbox.cli.archive import pack, unpack
from emberbox.cli.context import get_server
from emberbox.cli.data_plane import DataPlane, refusal
from emberbox.model.errors import HostError
from emberbox.settings import load

TAR = "application/x-tar"


def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A local path, or MICROVM:PATH.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="A local path, or MICROVM:PATH.")],
    user: Annotated[str | None, typer.Option("--user", "-u", help="Whose rights count there; else root's.")] = None,
) -> None:
    """Copy a file or a tree to a microVM or from it: into a directory that is there, or else to this very name."""
    theirs, ours = split(source), split(destination)
    if (theirs is None) == (ours is None):
        raise HostError("one of the two is in a microVM, written MICROVM:PATH; a local name with a colon, ./NAME")
    server = get_server(load().home)
    if ours is not None:
        upload(DataPlane(server, ours[0]), source, ours[1], user)
    elif theirs is not None:
        download(DataPlane(server, theirs[0]), theirs[1], destination, user)


def split(argument: str) -> tuple[str, str] | None:
    """Return microVM and path; None for a local path.

    Raises:
        HostError: the path is missing.
    """
    microvm, colon, path = argument.partition(":")
    if not colon or not microvm or "/" in microvm or microvm.startswith("."):
        return None
    if not path:
        raise HostError(f"{argument}: which path? {microvm}:/ is the root of the container")
    return microvm, path


def upload(plane: DataPlane, source: str, path: str, user: str | None) -> None:
    """Copy a local file or tree into a microVM.

    Raises:
        HostError: it cannot be read here, or not be written there.
    """
    headers = {"Content-Type": TAR, "Transfer-Encoding": "chunked"}
    connection = plane.begin_request("PUT", _target(path, user), headers)
    with contextlib.closing(connection):
        body = _ChunkedBody(connection)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer says why
            pack(source, body)
            body.finish()
        _read_answer(connection, http.client.NO_CONTENT)


def download(plane: DataPlane, path: str, destination: str, user: str | None) -> None:
    """Copy a file or tree of a microVM here.

    Raises:
        HostError: it cannot be read there, or not be written here.
    """
    connection = plane.begin_request("GET", _target(path, user), {"Accept": TAR})
    with contextlib.closing(connection):
        response = _read_answer(connection, http.client.OK)
        try:
            unpack(response, destination)
            response.read()
        except http.client.HTTPException as error:
            raise HostError(f"the copy broke off, what came of it is incomplete: {error!r}") from error


def _target(path: str, user: str | None) -> str:
    return "/files?" + urlencode({"path": path} | ({} if user is None else {"user": user}))


def _read_answer(connection: http.client.HTTPSConnection, expected: int) -> http.client.HTTPResponse:
    try:
        response = connection.getresponse()
        if response.status != expected:
            raise refusal(response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise HostError(f"the gateway broke the connection off: {error!r}") from error
    return response


class _ChunkedBody:
    """Sends what is written to it as the chunks of a request's body (RFC 9112, section 7.1)."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        if data:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        return len(data)

    def finish(self) -> None:
        self._connection.send(b"0\r\n\r\n")
