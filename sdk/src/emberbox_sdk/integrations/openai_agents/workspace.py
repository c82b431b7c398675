"""A workspace as an archive, and contents of files on their way."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from agents.sandbox.errors import WorkspaceWriteTypeError

from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk.errors import CommandFailedError, EmberboxError
from emberbox_sdk.integrations import shared

TIMEOUT_S = 600.0
TAR_SAW_CHANGES = 1
"""GNU tar's exit code when a file changed while it was read, as files of what runs on do; the archive is whole."""


async def pack(sandbox: AsyncSandbox, root: Path, skipped: Sequence[Path], archive: str) -> io.IOBase:
    """Return what is in a directory as an archive, open.

    Args:
        sandbox: where.
        root: the directory.
        skipped: what is left out, from there.
        archive: a path in the sandbox for it, while it is fetched.

    Raises:
        EmberboxError: it cannot be made or fetched.
    """
    excluded = [f"--exclude=./{path.as_posix()}" for path in skipped]
    command = ["tar", "--create", f"--file={archive}", *excluded, f"--directory={root.as_posix()}", "."]
    try:
        result = await sandbox.run(command, cwd="/", timeout_s=TIMEOUT_S)
        if result.exit_code > TAR_SAW_CHANGES:
            raise CommandFailedError(" ".join(command), result)
        async with sandbox.files.stream(archive) as pieces:
            return await keep(pieces)
    finally:
        await _remove(sandbox, archive)


async def unpack(sandbox: AsyncSandbox, root: Path, content: bytes, archive: str) -> None:
    """Put what is in an archive into a directory.

    Args:
        sandbox: where.
        root: the directory.
        content: of the archive.
        archive: a path in the sandbox for it, until it is unpacked.

    Raises:
        EmberboxError: it cannot be sent or unpacked.
    """
    try:
        await sandbox.files.write(archive, content)
        command = ["tar", "--extract", f"--file={archive}", f"--directory={root.as_posix()}"]
        await sandbox.run(command, cwd="/", check=True, timeout_s=TIMEOUT_S)
    finally:
        await _remove(sandbox, archive)


async def _remove(sandbox: AsyncSandbox, archive: str) -> None:
    with suppress(EmberboxError):  # it was not made, or its microVM has ended
        await sandbox.files.remove(archive)


def read_all(path: Path, data: io.IOBase) -> bytes:
    """Return all that a file-like object has.

    Raises:
        WorkspaceWriteTypeError: that is no bytes.
    """
    content = data.read()
    if isinstance(content, str):
        return content.encode()
    if not isinstance(content, bytes | bytearray):
        raise WorkspaceWriteTypeError(path=path, actual_type=type(content).__name__)
    return bytes(content)


async def keep(pieces: AsyncIterator[bytes], bytes_max: int | None = None) -> io.IOBase:
    """Return a file with what is read, at its beginning; only what is small is kept in memory.

    Raises:
        EmberboxError: it is larger than `bytes_max`.
    """
    file = tempfile.SpooledTemporaryFile(max_size=shared.OUTPUT_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
            if bytes_max is not None and file.tell() > bytes_max:
                raise shared.too_large(bytes_max)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file
