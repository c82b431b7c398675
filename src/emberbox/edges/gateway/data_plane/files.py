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

from emberbox.edges.gateway.data_plane.commands import BAD_GATEWAY, RefusedError, open_command
from emberbox.guest.protocol import Command, FilesWork
from emberbox.guest.streams import STDOUT, GuestCommand
from emberbox.model.errors import GuestError

TAR: Final = "application/x-tar"
PATH_BYTES_MAX: Final = 4095
MODE_MAX: Final = 0o7777
ID_MAX: Final = 0xFFFFFFFE
_BLOCK: Final = 512
_NAME_BYTES_MAX: Final = 64 << 10
_LONG_NAMES_MAX: Final = 2  # of the entry, and of what it links to
_ERRORS_MAX: Final = 1000
_FILE_BYTES_MAX: Final = 1 << 63
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
    errno.ELOOP: HTTPStatus.BAD_REQUEST,
    errno.ENXIO: HTTPStatus.CONFLICT,
    errno.ENODEV: HTTPStatus.CONFLICT,
    errno.EIO: HTTPStatus.CONFLICT,  # it cannot be read, or became shorter meanwhile
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
    except GuestError as error:
        source.command.close()
        raise RefusedError(BAD_GATEWAY, str(error)) from error
    except BaseException:
        source.command.close()
        raise


async def _answer_file(source: _Source, block: bytes) -> Response:
    entry = await _read_entry(source, block)
    if entry is None or not entry.isreg():
        raise RefusedError(409, f"it is no regular file; ask with Accept: {TAR}")
    first = await source.take_some(entry.size)  # a file that cannot be read is no file of no bytes
    headers = {
        "content-length": str(entry.size),
        "x-file-mode": f"{entry.mode:04o}",
        "x-file-uid": str(entry.uid),
        "x-file-gid": str(entry.gid),
        "last-modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(entry.mtime)),
    }
    content = source.stream(first, entry.size - len(first))
    return StreamingResponse(content, headers=headers, media_type="application/octet-stream")


async def _read_entry(source: _Source, block: bytes) -> tarfile.TarInfo | None:
    """Return the archive's first entry, whose header `block` is or comes after its long names; None: it has none.

    Raises:
        RefusedError: what comes is no archive.
    """
    try:
        for _ in range(_LONG_NAMES_MAX + 1):
            if not block.strip(b"\0"):
                return None  # a device or socket, which mean nothing elsewhere
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if entry.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                _check_numbers(entry)
                return entry
            await source.take(_padded(entry.size))
            block = await source.take(_BLOCK)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise RefusedError(BAD_GATEWAY, f"what the microVM sent is no archive: {error}") from error
    raise RefusedError(BAD_GATEWAY, "what the microVM sent is no archive: it has too many names")


def _check_numbers(entry: tarfile.TarInfo) -> None:
    if not 0 <= entry.size < _FILE_BYTES_MAX:
        raise ValueError("the file has no possible size")
    time.gmtime(entry.mtime)


class _Source:
    """The archive that a command writes."""

    def __init__(self, command: GuestCommand) -> None:
        self.command = command
        self._rest = b""
        self._errors = b""

    async def take(self, length: int) -> bytes:
        """Return just so many bytes.

        Raises:
            RefusedError: the command failed before it had written them, or they are more than any name has.
        """
        if not 0 <= length <= _NAME_BYTES_MAX:
            raise RefusedError(BAD_GATEWAY, "what the microVM sent is no archive: a name is too long")
        taken = bytearray()
        while len(taken) < length:
            taken += await self.take_some(length - len(taken))
        return bytes(taken)

    async def take_some(self, most: int) -> bytes:
        """Return some bytes, at most so many; none only where none are wanted.

        Raises:
            RefusedError: the command failed before it had written any.
        """
        if not most:
            return b""
        data = self._rest or await self._read()
        if not data:
            raise _refusal(self.command.exit_code, self._errors)
        taken, self._rest = data[:most], data[most:]
        return taken

    async def _read(self) -> bytes:
        while (received := await self.command.read()) is not None:
            if received[0] == STDOUT:
                return received[1]
            self._errors = (self._errors + received[1])[:_ERRORS_MAX]
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
        # The slash says that it must be a directory: an archive's one entry may else take the place of a missing one.
        command = await _open(request, FilesWork.UNPACK, f"{str(PurePosixPath(path).parent).rstrip('/')}/")
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
    takes = await _passed(command, head)
    async for part in request.stream():
        takes = takes and await _passed(command, part)
    if takes and await _passed(command, tail):
        command.end_input()


async def _passed(command: GuestCommand, data: bytes) -> bool:
    """Return whether the guest still takes data; why it does not is read from it at the end."""
    try:
        await command.write(data)
    except GuestError:
        return False
    return True


async def _finish(command: GuestCommand) -> None:
    errors = b""
    try:
        while (received := await command.read()) is not None:
            errors = (errors + received[1])[:_ERRORS_MAX]
    except GuestError as error:
        raise RefusedError(BAD_GATEWAY, str(error)) from error
    if command.exit_code:
        raise _refusal(command.exit_code, errors)


# --- both ways


async def _open(request: Request, work: FilesWork, path: str) -> GuestCommand:
    return await open_command(request, Command((path,), user=request.query_params.get("user"), files=work))


def _refusal(exit_code: int, errors: bytes) -> RefusedError:
    message = errors.decode(errors="replace").strip() or f"the copy ended with {exit_code}"
    return RefusedError(_STATUS.get(exit_code, BAD_GATEWAY), message)


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


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
