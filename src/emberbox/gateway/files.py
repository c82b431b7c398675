"""Files and trees of a microVM: what `GET /files` and `PUT /files` do.

The guest's agent packs and unpacks tar archives inside the container, confined to its root; archives pass through
here as they are. A single file is an archive of one entry, whose header is made or taken off here.
"""

from __future__ import annotations

import errno
import tarfile
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from emberbox.gateway.commands import BAD_GATEWAY, RefusedError, open_command
from emberbox.guest.protocol import Command, FilesWork
from emberbox.guest.streams import STDOUT, GuestCommand
from emberbox.model.errors import GuestError

TAR: Final = "application/x-tar"
PATH_BYTES_MAX: Final = 4095
MODE_MAX: Final = 0o7777
ID_MAX: Final = 0xFFFFFFFE
_BLOCK: Final = 512
_CHUNK: Final = 1 << 16
# The agent's exit code is the errno of what failed.
_STATUS: Final = {
    errno.ENOENT: HTTPStatus.NOT_FOUND,
    errno.EACCES: HTTPStatus.FORBIDDEN,
    errno.EPERM: HTTPStatus.FORBIDDEN,
    errno.EROFS: HTTPStatus.FORBIDDEN,
    errno.EXDEV: HTTPStatus.FORBIDDEN,  # out of the destination, through a link
    errno.ENOTDIR: HTTPStatus.CONFLICT,
    errno.EISDIR: HTTPStatus.CONFLICT,
    errno.ENOTEMPTY: HTTPStatus.CONFLICT,
    errno.EBUSY: HTTPStatus.CONFLICT,
    errno.ENOSPC: HTTPStatus.INSUFFICIENT_STORAGE,
    errno.EDQUOT: HTTPStatus.INSUFFICIENT_STORAGE,
    errno.EBADMSG: HTTPStatus.BAD_REQUEST,
    errno.EINVAL: HTTPStatus.BAD_REQUEST,
    errno.ENOTSUP: HTTPStatus.BAD_REQUEST,
    errno.ENAMETOOLONG: HTTPStatus.BAD_REQUEST,
    126: HTTPStatus.BAD_REQUEST,  # there is no such user
}


# --- out of the microVM


async def get_files(request: Request) -> Response:
    """Return a file's bytes, or with `Accept: application/x-tar` an archive of whatever is at the path.

    Raises:
        RefusedError: the request is malformed, or the path cannot be read.
    """
    as_archive = TAR in request.headers.get("accept", "")
    work = FilesWork.PACK if as_archive else FilesWork.PACK_FOLLOWED
    source = _Source(await _open(request, work, _path_of(request)))
    try:
        first = await source.take(_BLOCK)
        if as_archive:
            return StreamingResponse(source.stream(first), media_type=TAR)
        return await _answer_file(source, first)
    except BaseException:
        source.command.close()
        raise


async def _answer_file(source: _Source, block: bytes) -> Response:
    while block[156:157] in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        await source.take(_padded(_size_of(block)))
        block = await source.take(_BLOCK)
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if not entry.isreg():
        raise RefusedError(409, f"it is no regular file; ask with Accept: {TAR}")
    headers = {
        "content-length": str(entry.size),
        "x-file-mode": f"{entry.mode:04o}",
        "x-file-uid": str(entry.uid),
        "x-file-gid": str(entry.gid),
        "last-modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(entry.mtime)),
    }
    return StreamingResponse(source.stream(b"", entry.size), headers=headers, media_type="application/octet-stream")


class _Source:
    """The archive that a command writes."""

    def __init__(self, command: GuestCommand) -> None:
        self.command = command
        self._rest = b""
        self._errors = b""

    async def take(self, length: int) -> bytes:
        """Return just so many bytes.

        Raises:
            RefusedError: the command failed before it had written them.
        """
        while len(self._rest) < length:
            data = await self._read()
            if not data:
                raise _refusal(self.command.exit_code, self._errors)
            self._rest += data
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    async def _read(self) -> bytes:
        while (received := await self.command.read()) is not None:
            if received[0] == STDOUT:
                return received[1]
            self._errors += received[1][:1000]
        return b""

    async def stream(self, first: bytes, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield what is left, or the next `length` bytes of it. A failure breaks the answer off, so that it shows."""
        try:
            yield first
            while length is None or length:
                data = self._rest or await self._read()
                if not data:
                    break
                self._rest = b""
                if length is not None:
                    data = data[:length]
                    length -= len(data)
                yield data
            if length:
                raise GuestError("the file was cut short")
            if length is None and self.command.exit_code:
                raise _refusal(self.command.exit_code, self._errors)
        finally:
            self.command.close()


# --- into the microVM


async def put_files(request: Request) -> Response:
    """Write a file, or with `Content-Type: application/x-tar` unpack an archive.

    Raises:
        RefusedError: the request is malformed, or the files cannot be written.
    """
    path = _path_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() == TAR:
        command = await _open(request, FilesWork.UNPACK, path)
        head, tail = b"", b""
    else:
        head, size = _file_header(request, path)
        command = await _open(request, FilesWork.UNPACK, str(PurePosixPath(path).parent))
        tail = bytes(_padded(size) - size + 2 * _BLOCK)
    try:
        await _send(request, command, head, tail)
        await _finish(command)
    finally:
        command.close()
    return Response(status_code=204)


def _file_header(request: Request, path: str) -> tuple[bytes, int]:
    """Return the header of an archive with this one file, and the file's size."""
    length = request.headers.get("content-length")
    if length is None:
        raise RefusedError(411, "the size of a file must be known before: send Content-Length, or an archive")
    entry = tarfile.TarInfo(PurePosixPath(path).name)
    if path.endswith("/") or entry.name in ("", "..", "."):
        raise RefusedError(400, "path must end with the file's name")
    entry.size = int(length)
    entry.mode = _number_of(request, "mode", 0o644, MODE_MAX, base=8)
    entry.uid = _number_of(request, "uid", 0, ID_MAX)
    entry.gid = _number_of(request, "gid", 0, ID_MAX)
    entry.mtime = int(time.time())
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"), entry.size


async def _send(request: Request, command: GuestCommand, head: bytes, tail: bytes) -> None:
    """Pass the body on. It is read to its end also when the guest has failed: only then clients read the answer."""
    failed = False
    await command.write(head)
    async for part in request.stream():
        if not failed:
            try:
                await command.write(part)
            except GuestError:
                failed = True
    if not failed:
        await command.write(tail)
        command.end_input()


async def _finish(command: GuestCommand) -> None:
    errors = b""
    try:
        while (received := await command.read()) is not None:
            errors += received[1][:1000]
    except GuestError as error:
        raise RefusedError(BAD_GATEWAY, str(error)) from error
    if command.exit_code:
        raise _refusal(command.exit_code, errors)


# --- both ways


async def _open(request: Request, work: FilesWork, path: str) -> GuestCommand:
    return await open_command(request, Command((path,), user=request.query_params.get("user"), files=work))


def _refusal(exit_code: int, errors: bytes) -> RefusedError:
    message = errors.decode(errors="replace").strip() or f"the copy ended with {exit_code}"
    return RefusedError(_STATUS.get(exit_code, HTTPStatus.INTERNAL_SERVER_ERROR), message)


def _path_of(request: Request) -> str:
    path = request.query_params.get("path", "")
    if not path or "\0" in path or len(path.encode(errors="replace")) > PATH_BYTES_MAX:
        raise RefusedError(400, f"path must have 1 to {PATH_BYTES_MAX} bytes, none of them zero")
    return path


def _number_of(request: Request, name: str, default: int, limit: int, base: int = 10) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number <= limit:
        kind = f"octal, at most {limit:o}" if base == 8 else f"from 0 to {limit}"
        raise RefusedError(400, f"{name} must be a number, {kind}")
    return number


def _size_of(block: bytes) -> int:
    return int(block[124:136].rstrip(b"\0 ") or b"0", 8)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
