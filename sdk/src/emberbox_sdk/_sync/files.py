# Made by sdk/make_sync.py from _async/files.py; do not edit.
"""Files of a sandbox."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlencode

import httpx2

from emberbox_sdk import archive, commands, listing
from emberbox_sdk._sync import platform
from emberbox_sdk._sync.command import Command, run
from emberbox_sdk._sync.endpoint import Endpoint
from emberbox_sdk.commands import Asked
from emberbox_sdk.errors import (
    AccessError,
    ApiError,
    ConflictError,
    DisconnectedError,
    EmberboxError,
    NotFoundError,
)
from emberbox_sdk.results import Entry, FileEvent

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 60.0
TAR = "application/x-tar"

OnBytes = Callable[[int], None]


class Files:
    """The files of one sandbox. A path that does not begin with / is taken from there; rights are root's unless said.

    Args:
        endpoint: of the sandbox.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    # --- contents

    def read(self, path: str, *, user: str | None = None) -> str:
        """Return a file's text, which is UTF-8.

        Raises:
            NotFoundError: there is none.
        """
        return (self.read_bytes(path, user=user)).decode()

    def read_bytes(self, path: str, *, user: str | None = None) -> bytes:
        """Return a file's bytes.

        Raises:
            NotFoundError: there is none.
        """
        with self._get(path, user, None) as answer:
            return answer.read()

    @contextlib.contextmanager
    def stream(self, path: str, *, user: str | None = None) -> Iterator[Iterator[bytes]]:
        """Open a file of any size: `with files.stream(path) as pieces: for piece in pieces: ...`.

        Raises:
            NotFoundError: there is none.
        """
        with self._get(path, user, None) as answer:
            yield answer.iter_bytes(CHUNK_BYTES)

    def write(
        self,
        path: str,
        data: str | bytes | Path | IO[bytes],
        *,
        mode: int = 0o644,
        user: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write a file; what was there is replaced once the new one is whole. Missing directories are made.

        Args:
            path: in the sandbox.
            data: text, bytes, a local file, or one that is open.
            mode: permissions.
            user: whose rights count, and whose the file will be; root when missing.
            on_bytes: called with how many bytes of a local file are sent, as they are.
        """
        if isinstance(data, Path):
            with data.open("rb") as file:
                self.write(path, file, mode=mode, user=user, on_bytes=on_bytes)
            return
        content = data.encode() if isinstance(data, str) else data
        begin = 0 if isinstance(content, bytes) else content.tell()
        try:
            self._put(path, content, mode, user, on_bytes)
        except NotFoundError:
            self.mkdir(str(PurePosixPath(listing.normalise(path)).parent), user=user)
            if not isinstance(content, bytes):
                content.seek(begin)
            self._put(path, content, mode, user, on_bytes)

    def upload(
        self,
        source: str | Path,
        path: str,
        *,
        user: str | None = None,
        owners: bool = False,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Copy a local file or tree: into a directory that is there, or else to this very name; as it is read.

        Args:
            source: local; of `DIR/.` what is in the directory.
            path: in the sandbox.
            user: whose rights count; root when missing.
            owners: whether files keep their owners, by number, where it is root whose rights count.
            on_bytes: called with how many bytes are sent, as they are.

        Raises:
            OSError: there is nothing at the source, or it cannot be read.
            NotFoundError: the directory that it is to be in is not there.
        """
        packed = archive.pack(source, owners=owners)
        body = _counted(_pieces(lambda: next(packed, b"")), on_bytes)
        headers = {"Content-Type": TAR}
        with self._endpoint.stream("PUT", _query(path, user), headers=headers, content=body) as answer:
            self._check(answer)

    def download(
        self,
        path: str,
        destination: str | Path,
        *,
        user: str | None = None,
        into: bool = True,
        owners: bool = False,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Copy a file or tree here, as it comes.

        Nothing is written outside of the destination, whatever the sandbox sends, and no file is setuid. Links are
        kept as they are, and none is followed.

        Args:
            path: in the sandbox.
            destination: local.
            user: whose rights count; root when missing.
            into: whether the destination is a directory that takes the copy, and is made where it is missing. Otherwise
                as `cp` has it: into a directory that is there, or else to this very name.
            owners: whether files keep their owners, by number, where this process is root's.
            on_bytes: called with how many bytes have come, as they do.

        Raises:
            NotFoundError: nothing is at the path.
            OSError: the destination cannot be written.
            ArchiveError: what comes is not fit to be written.
            DisconnectedError: it broke off; what came of it is incomplete.
        """
        with self._get(path, user, TAR) as answer:
            came = _counted(answer.iter_bytes(CHUNK_BYTES), on_bytes)
            try:
                platform.read_in_thread(
                    came, lambda more: archive.unpack(archive.Pieces(more), destination, into=into, owners=owners)
                )
                for _ in came:  # to the very end: then it is known to be whole
                    pass
            except httpx2.TransportError as error:
                hint = "what came of it is incomplete; copy it again"
                raise DisconnectedError(f"the copy broke off ({error or type(error).__name__})", hint) from error

    # --- names

    def list(self, path: str = "/", *, depth: int = 1, user: str | None = None) -> builtins.list[Entry]:
        """Return what is below a directory, by path.

        Args:
            path: of the directory.
            depth: how many levels; 1 for the directory's own entries.
            user: whose rights count.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is no directory.
        """
        return listing.read_entries(self._script(listing.LIST, user, path, str(depth)))

    def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Return what is at a path; a link is not followed.

        Raises:
            NotFoundError: nothing is.
        """
        return listing.read_entries(self._script(listing.STAT, user, path))[0]

    def exists(self, path: str, *, user: str | None = None) -> bool:
        """Return whether anything is at a path."""
        try:
            self.stat(path, user=user)
        except NotFoundError:
            return False
        return True

    def mkdir(self, path: str, *, user: str | None = None) -> None:
        """Make a directory, and those above it; one that is there already is left as it is."""
        self._script(listing.MAKE_DIRECTORY, user, path)

    def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory with all that is in it.

        Raises:
            NotFoundError: there is none.
        """
        self._script(listing.REMOVE, user, path)

    def rename(self, old: str, new: str, *, user: str | None = None) -> None:
        """Move what is at a path to another.

        Raises:
            NotFoundError: there is none.
        """
        self._script(listing.RENAME, user, old, listing.normalise(new))

    def watch(
        self, path: str, *, recursive: bool = False, every_s: float = 0.5, user: str | None = None
    ) -> Iterator[FileEvent]:
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
        with Command.start(self._endpoint, asked) as command:
            before: list[Entry] | None = None
            held = b""
            while (output := command.read()) is not None:
                held += output.data
                while listing.PICTURE_END in held:
                    picture, _, held = held.partition(listing.PICTURE_END)
                    now = listing.read_entries(picture)
                    for event in () if before is None else listing.compare(before, now):
                        yield event
                    before = now
            raise _failure(command.exit_code or 0, path, "")

    # --- how

    @contextlib.contextmanager
    def _get(self, path: str, user: str | None, accept: str | None) -> Iterator[httpx2.Response]:
        headers = {"Accept": accept or "application/octet-stream", "Accept-Encoding": "identity"}
        with self._endpoint.stream("GET", _query(path, user), headers=headers) as answer:
            self._check(answer)
            yield answer

    def _put(
        self, path: str, content: bytes | IO[bytes], mode: int, user: str | None, on_bytes: OnBytes | None
    ) -> None:
        size = len(content) if isinstance(content, bytes) else _size(content)
        query = _query(path, user, mode=f"{mode:o}")
        body = content if isinstance(content, bytes) else _counted(_pieces(lambda: content.read(CHUNK_BYTES)), on_bytes)
        with self._endpoint.stream("PUT", query, headers={"Content-Length": str(size)}, content=body) as answer:
            self._check(answer)

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code >= httpx2.codes.MULTIPLE_CHOICES:
            raise commands.refusal(answer.status_code, answer.read(), self._endpoint.sandbox_id)

    def _script(self, script: str, user: str | None, path: str, *arguments: str) -> bytes:
        result = run(self._endpoint, _script(script, user, path, *arguments), timeout_s=TIMEOUT_S)
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


def _pieces(more: Callable[[], bytes]) -> Iterator[bytes]:
    while piece := platform.in_thread(more):
        yield piece


def _counted(pieces: Iterator[bytes], on_bytes: OnBytes | None) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        yield piece
        count += len(piece)
        if on_bytes is not None:
            on_bytes(count)
