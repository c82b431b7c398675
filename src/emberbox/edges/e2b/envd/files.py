"""Contents of files: `GET /files` and `POST /files`. They pass through as they come, whatever their size."""

from __future__ import annotations

import asyncio
import posixpath
import zlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from emberbox.edges.e2b.envd import entries
from emberbox.edges.e2b.envd.connect import Json, RpcError
from emberbox.edges.e2b.envd.forms import FORM_TYPE, read_files
from emberbox.edges.e2b.envd.scripts import RESOLVE, TIMEOUT_S, Done, check_started, script
from emberbox.edges.e2b.envd.visit import Visit
from emberbox.edges.e2b.errors import ApiError
from emberbox.guest.streams import STDOUT, GuestCommand
from emberbox.model.errors import GuestError

_READ: Final = f"""{RESOLVE}
at "$1"
[ -e "$p" ] || exit {entries.NOT_THERE}
[ ! -d "$p" ] || exit {entries.NOT_A_DIRECTORY}
exec 3<"$p" || exit 1
echo ok
exec cat <&3
"""
_WRITE: Final = f"""{RESOLVE}
at "$1"
[ ! -d "$p" ] || exit {entries.NOT_A_DIRECTORY}
mkdir -p -- "$(dirname -- "$p")" && exec 3>"$p" || exit 1
printf '%s\\n' "$p"
exec cat >&3
"""
_PATH_BYTES_MAX: Final = 4095
_GZIP_WINDOW: Final = 31
_PIECE: Final = 1 << 18
_STATUSES: Final = {
    entries.NOT_THERE: (404, "file not found: {path}"),
    entries.NOT_A_DIRECTORY: (400, "path is a directory: {path}"),
}


# --- out of the sandbox


async def get_file(visit: Visit, request: Request) -> Response:
    """Return a file's content.

    Raises:
        ApiError: there is none, or it cannot be read.
    """
    path = _read_path(request.query_params.get("path", ""))
    command = await visit.open_command(script(_READ, path, user=visit.user))
    try:
        command.end_input()
        _, first = await _first_line(command, path)
    except BaseException:
        command.close()
        raise
    headers = {"content-disposition": f'inline; filename="{_quotable(path)}"'}
    return StreamingResponse(_stream(command, first), media_type="application/octet-stream", headers=headers)


async def _stream(command: GuestCommand, first: bytes) -> AsyncIterator[bytes]:
    """A failure breaks the answer off, so that it shows."""
    try:
        if first:
            yield first
        while (received := await command.read()) is not None:
            if received[0] == STDOUT:
                yield received[1]
        if command.exit_code:
            raise GuestError("the file could not be read to its end")
    finally:
        command.close()


async def _first_line(command: GuestCommand, path: str) -> tuple[str, bytes]:
    """Return the line with which a script says that it may, and what came behind it.

    Raises:
        ApiError: it may not.
    """
    said, errors = b"", b""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while (received := await command.read()) is not None:
                which, data = received
                if which != STDOUT:
                    errors = (errors + data)[:1000]
                    continue
                said += data
                line, end, rest = said.partition(b"\n")
                if end:
                    return line.decode(errors="replace"), rest
    except TimeoutError:
        raise ApiError(504, f"the sandbox did not answer within {TIMEOUT_S:g} s") from None
    raise _refusal(command.exit_code, errors, path)


def _refusal(exit_code: int, errors: bytes, path: str) -> ApiError:
    told = errors.decode(errors="replace").strip()
    try:
        check_started(Done(exit_code, b"", told))
    except RpcError as error:
        return ApiError(401 if error.code == "unauthenticated" else 502, error.message)
    if exit_code in _STATUSES:
        status, text = _STATUSES[exit_code]
        return ApiError(status, text.format(path=path))
    if "ermission denied" in told:
        return ApiError(403, told)
    if "No space left" in told or "quota exceeded" in told:
        return ApiError(507, told)
    return ApiError(500, told or f"{path}: it failed with {exit_code}")


# --- into the sandbox


async def post_files(visit: Visit, request: Request) -> Response:
    """Write files: those of a form, or the one that is the body. Directories above them are made.

    Raises:
        ApiError: something is malformed, or cannot be written.
    """
    content_type = request.headers.get("content-type", "")
    body = _unpacked(request)
    asked = request.query_params.get("path", "")
    _refuse_metadata(request)
    if content_type.partition(";")[0].strip().lower() == FORM_TYPE:
        written = await _write_form(visit, content_type, body, asked)
    else:
        target = await _Target(visit, _read_path(asked)).open()
        written = [await target.fill(body)]
    return JSONResponse([_show(path) for path in written])


def _refuse_metadata(request: Request) -> None:
    if any(name.startswith("x-metadata-") for name in request.headers):
        raise ApiError(400, "metadata of files is not kept here; write it into a file of its own")


async def _write_form(visit: Visit, content_type: str, body: AsyncIterator[bytes], asked: str) -> list[str]:
    written: list[str] = []
    target: _Target | None = None
    try:
        async for kind, data in read_files(content_type, body):
            match kind:
                case "file":
                    path = asked or data.decode(errors="replace")
                    target = await _Target(visit, _read_path(path)).open()
                case "data" if target is not None:
                    await target.write(data)
                case "end" if target is not None:
                    written.append(await target.finish())
                    target = None
    finally:
        if target is not None:
            target.close()
    if not written:
        raise ApiError(400, "the form has no file")
    return written


class _Target:
    """A file that is being written; it has what has come so far."""

    def __init__(self, visit: Visit, path: str) -> None:
        self._visit = visit
        self._path = path
        self._written = path
        self._command: GuestCommand | None = None

    async def open(self) -> _Target:
        self._command = await self._visit.open_command(script(_WRITE, self._path, user=self._visit.user))
        try:
            self._written, _ = await _first_line(self._command, self._path)
        except BaseException:
            self.close()
            raise
        return self

    async def fill(self, body: AsyncIterator[bytes]) -> str:
        try:
            async for part in body:
                await self.write(part)
            return await self.finish()
        finally:
            self.close()

    async def write(self, data: bytes) -> None:
        assert self._command is not None
        try:
            await self._command.write(data)
        except GuestError:
            await self.finish()  # says why it ended
            raise

    async def finish(self) -> str:
        """Wait until all is written, and return the file's path."""
        command = self._command
        assert command is not None
        errors = b""
        try:
            command.end_input()
            async with asyncio.timeout(TIMEOUT_S):
                while (received := await command.read()) is not None:
                    errors = (errors + received[1])[:1000]
        except TimeoutError:
            raise ApiError(504, f"the file was not written within {TIMEOUT_S:g} s") from None
        finally:
            self.close()
        if command.exit_code:
            raise _refusal(command.exit_code, errors, self._path)
        return self._written

    def close(self) -> None:
        if self._command is not None:
            self._command.close()


async def _unpacked(request: Request) -> AsyncIterator[bytes]:
    """Yield the body, without the compression that it was sent with.

    Raises:
        ApiError: it is compressed in a way that is not known, or cut short.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise ApiError(415, f"content-encoding must be gzip, not {encoding}")
    if encoding == "identity":
        async for part in request.stream():
            yield part
        return
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        async for part in request.stream():
            left = part
            while left:
                yield unpacking.decompress(left, _PIECE)
                left = unpacking.unconsumed_tail
    except zlib.error as error:
        raise ApiError(400, f"the body is no gzip: {error}") from None
    if not unpacking.eof:
        raise ApiError(400, "the body is cut short")


def _read_path(path: str) -> str:
    if not path or "\0" in path or path.endswith("/") or len(path.encode(errors="replace")) > _PATH_BYTES_MAX:
        raise ApiError(400, f"path must name a file, with at most {_PATH_BYTES_MAX} bytes, none of them zero")
    return entries.normalise(path)


def _quotable(path: str) -> str:
    name = posixpath.basename(path)
    return "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\' else "_"
        for character in name
    )


def _show(path: str) -> Json:
    found = entries.normalise(path)
    return {"name": posixpath.basename(found), "type": "file", "path": found}
