"""Files of a sandbox."""

from __future__ import annotations

import builtins
import contextlib
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlencode

import httpx2

from emberbox_sdk import commands, listing
from emberbox_sdk._async import platform
from emberbox_sdk._async.command import AsyncCommand, run
from emberbox_sdk._async.endpoint import AsyncEndpoint
from emberbox_sdk.commands import Asked
from emberbox_sdk.errors import AccessError, ApiError, ConflictError, EmberboxError, NotFoundError
from emberbox_sdk.results import Entry, FileEvent

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 60.0
TAR = "application/x-tar"


class AsyncFiles:
    """The files of one sandbox. A path that does not begin with / is taken from there; rights are root's unless said.

    Args:
        endpoint: of the sandbox.
    """

    def __init__(self, endpoint: AsyncEndpoint) -> None:
        self._endpoint = endpoint

    # --- contents

    async def read(self, path: str, *, user: str | None = None) -> str:
        """Return a file's text, which is UTF-8.

        Raises:
            NotFoundError: there is none.
        """
        return (await self.read_bytes(path, user=user)).decode()

    async def read_bytes(self, path: str, *, user: str | None = None) -> bytes:
        """Return a file's bytes.

        Raises:
            NotFoundError: there is none.
        """
        async with self._get(path, user, None) as answer:
            return await answer.aread()

    @contextlib.asynccontextmanager
    async def stream(self, path: str, *, user: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file of any size: `with files.stream(path) as pieces: for piece in pieces: ...`.

        Raises:
            NotFoundError: there is none.
        """
        async with self._get(path, user, None) as answer:
            yield answer.aiter_bytes(CHUNK_BYTES)

    async def write(
        self, path: str, data: str | bytes | Path | IO[bytes], *, mode: int = 0o644, user: str | None = None
    ) -> None:
        """Write a file; what was there is replaced once the new one is whole. Missing directories are made.

        Args:
            path: in the sandbox.
            data: text, bytes, a local file, or one that is open.
            mode: permissions.
            user: whose rights count, and whose the file will be; root when missing.
        """
        if isinstance(data, Path):
            with data.open("rb") as file:
                await self.write(path, file, mode=mode, user=user)
            return
        content = data.encode() if isinstance(data, str) else data
        begin = 0 if isinstance(content, bytes) else content.tell()
        try:
            await self._put(path, content, mode, user)
        except NotFoundError:
            await self.mkdir(str(PurePosixPath(listing.normalise(path)).parent), user=user)
            if not isinstance(content, bytes):
                content.seek(begin)
            await self._put(path, content, mode, user)

    async def upload(self, source: str | Path, path: str, *, user: str | None = None) -> None:
        """Copy a local file or tree: into a directory that is there, or else to this very name.

        Args:
            source: local.
            path: in the sandbox.
            user: whose rights count; root when missing.
        """
        with tempfile.TemporaryFile() as archive:
            local = Path(source)
            await platform.in_thread(lambda: _pack(local, archive))
            archive.seek(0)
            query = _query(path, user)
            async with self._endpoint.stream(
                "PUT", query, headers={"Content-Type": TAR}, content=_pieces(archive)
            ) as answer:
                await self._check(answer)

    async def download(self, path: str, destination: str | Path, *, user: str | None = None) -> None:
        """Copy a file or tree here, into a directory, which is made where it is missing.

        Nothing is written outside of it, whatever the sandbox sends.

        Args:
            path: in the sandbox.
            destination: a local directory.
            user: whose rights count; root when missing.
        """
        target = Path(destination)
        with tempfile.TemporaryFile() as archive:
            async with self._get(path, user, TAR) as answer:
                async for piece in answer.aiter_bytes(CHUNK_BYTES):
                    archive.write(piece)
            archive.seek(0)
            await platform.in_thread(lambda: _unpack(archive, target))

    # --- names

    async def list(self, path: str = "/", *, depth: int = 1, user: str | None = None) -> builtins.list[Entry]:
        """Return what is below a directory, by path.

        Args:
            path: of the directory.
            depth: how many levels; 1 for the directory's own entries.
            user: whose rights count.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is no directory.
        """
        return listing.read_entries(await self._script(listing.LIST, user, path, str(depth)))

    async def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Return what is at a path; a link is not followed.

        Raises:
            NotFoundError: nothing is.
        """
        return listing.read_entries(await self._script(listing.STAT, user, path))[0]

    async def exists(self, path: str, *, user: str | None = None) -> bool:
        """Return whether anything is at a path."""
        try:
            await self.stat(path, user=user)
        except NotFoundError:
            return False
        return True

    async def mkdir(self, path: str, *, user: str | None = None) -> None:
        """Make a directory, and those above it; one that is there already is left as it is."""
        await self._script(listing.MAKE_DIRECTORY, user, path)

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory with all that is in it.

        Raises:
            NotFoundError: there is none.
        """
        await self._script(listing.REMOVE, user, path)

    async def rename(self, old: str, new: str, *, user: str | None = None) -> None:
        """Move what is at a path to another.

        Raises:
            NotFoundError: there is none.
        """
        await self._script(listing.RENAME, user, old, listing.normalise(new))

    async def watch(
        self, path: str, *, recursive: bool = False, every_s: float = 0.5, user: str | None = None
    ) -> AsyncIterator[FileEvent]:
        """Yield what happens below a directory, from now on and until the loop is left.

        The directory is looked at in the sandbox, so nothing crosses the network while nothing happens. What is made
        and removed between two looks is not seen.

        Args:
            path: of the directory.
            recursive: also what is in directories below it.
            every_s: seconds between two looks.
            user: whose rights count.

        Raises:
            NotFoundError: there is none.
            DisconnectedError: the sandbox was suspended or has ended.
        """
        depth = listing.EVERY_LEVEL if recursive else 1
        asked = _script(listing.WATCH, user, path, str(depth), f"{every_s:g}")
        async with await AsyncCommand.start(self._endpoint, asked) as command:
            before: list[Entry] | None = None
            held = b""
            while (output := await command.read()) is not None:
                held += output.data
                while listing.PICTURE_END in held:
                    picture, _, held = held.partition(listing.PICTURE_END)
                    now = listing.read_entries(picture)
                    for event in () if before is None else listing.compare(before, now):
                        yield event
                    before = now
            raise _failure(command.exit_code or 0, path, "")

    # --- how

    @contextlib.asynccontextmanager
    async def _get(self, path: str, user: str | None, accept: str | None) -> AsyncIterator[httpx2.Response]:
        headers = {"Accept": accept or "application/octet-stream", "Accept-Encoding": "identity"}
        async with self._endpoint.stream("GET", _query(path, user), headers=headers) as answer:
            await self._check(answer)
            yield answer

    async def _put(self, path: str, content: bytes | IO[bytes], mode: int, user: str | None) -> None:
        size = len(content) if isinstance(content, bytes) else _size(content)
        query = _query(path, user, mode=f"{mode:o}")
        body = content if isinstance(content, bytes) else _pieces(content)
        async with self._endpoint.stream("PUT", query, headers={"Content-Length": str(size)}, content=body) as answer:
            await self._check(answer)

    async def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code >= httpx2.codes.MULTIPLE_CHOICES:
            raise commands.refusal(answer.status_code, await answer.aread(), self._endpoint.sandbox_id)

    async def _script(self, script: str, user: str | None, path: str, *arguments: str) -> bytes:
        result = await run(self._endpoint, _script(script, user, path, *arguments), timeout_s=TIMEOUT_S)
        if result.exit_code:
            raise _failure(result.exit_code, path, result.stderr)
        return result.stdout.encode(errors="surrogateescape")


def _script(script: str, user: str | None, path: str, *arguments: str) -> Asked:
    return Asked(["/bin/sh", "-c", script, "sh", listing.normalise(path), *arguments], user=user or "0", cwd="/")


def _failure(exit_code: int, path: str, told: str) -> EmberboxError:
    if exit_code == listing.NOT_THERE:
        return NotFoundError(f"{path}: nothing is there", "files.list() of the directory shows what is")
    if exit_code == listing.NOT_A_DIRECTORY:
        return ConflictError(f"{path} is no directory", "read() gives a file's contents")
    if "ermission denied" in told:
        return AccessError(told.strip(), "leave `user` out to have root's rights")
    return ApiError(told.strip() or f"{path}: it failed with {exit_code}", "the image needs sh, find and stat")


def _query(path: str, user: str | None, **more: str) -> str:
    asked = {"path": path, **({} if user is None else {"user": user}), **more}
    return "/files?" + urlencode(asked)


def _size(file: IO[bytes]) -> int:
    begin = file.tell()
    end = file.seek(0, 2)
    file.seek(begin)
    return end - begin


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await platform.in_thread(lambda: file.read(CHUNK_BYTES)):
        yield piece


def _pack(source: Path, archive: IO[bytes]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(source, source.name or "root", filter=_as_root)


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _unpack(archive: IO[bytes], destination: Path) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=archive, mode="r") as tar:
        tar.extractall(destination, filter="data")
