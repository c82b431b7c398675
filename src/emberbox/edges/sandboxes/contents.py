"""Contents of files, into a sandbox and out of it. They pass through as they come, whatever their size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.errors import ApiError, CallError
from emberbox.edges.sandboxes.scripts import RESOLVE, TIMEOUT_S, Done, check_started
from emberbox.edges.sandboxes.visit import Visit
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
_STATUSES: Final = {
    entries.NOT_THERE: (404, "file not found: {path}"),
    entries.NOT_A_DIRECTORY: (400, "path is a directory: {path}"),
}


# --- out of the sandbox


async def open_content(visit: Visit, path: str) -> AsyncGenerator[bytes]:
    """Return a file's content, which is read as it is asked for; it must be asked for once at least.

    Raises:
        ApiError: there is none, or it cannot be read.
    """
    command = await visit.open_script(_READ, path)
    try:
        command.end_input()
        _, first = await _first_line(command, path)
    except BaseException:
        command.close()
        raise
    return _stream(command, first)


async def _stream(command: GuestCommand, first: bytes) -> AsyncGenerator[bytes]:
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
    except CallError as error:
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


class Target:
    """A file that is being written; it has what has come so far."""

    def __init__(self, visit: Visit, path: str) -> None:
        self._visit = visit
        self._path = path
        self._written = path
        self._command: GuestCommand | None = None

    async def open(self) -> Target:
        """Begin to write it: what was there is gone, and directories above it are made.

        Raises:
            ApiError: it cannot be written.
        """
        self._command = await self._visit.open_script(_WRITE, self._path)
        try:
            self._written, _ = await _first_line(self._command, self._path)
        except BaseException:
            self.close()
            raise
        return self

    async def fill(self, body: AsyncIterator[bytes]) -> str:
        """Write all of a body, and return the file's path.

        Raises:
            ApiError: it cannot be written.
        """
        try:
            async for part in body:
                await self.write(part)
            return await self.finish()
        finally:
            self.close()

    async def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            ApiError: it cannot be written.
            GuestError: the sandbox stopped meanwhile.
        """
        assert self._command is not None
        try:
            await self._command.write(data)
        except GuestError:
            await self.finish()  # says why it ended
            raise

    async def finish(self) -> str:
        """Wait until all is written, and return the file's path.

        Raises:
            ApiError: it could not be written.
        """
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
        """Let go of it, written or not."""
        if self._command is not None:
            self._command.close()


def read_file_path(path: str) -> str:
    """Return the path of a file, as a client has named it.

    Raises:
        ApiError: it names none.
    """
    if not path or "\0" in path or path.endswith("/") or len(path.encode(errors="replace")) > _PATH_BYTES_MAX:
        raise ApiError(400, f"path must name a file, with at most {_PATH_BYTES_MAX} bytes, none of them zero")
    return entries.normalise(path)
