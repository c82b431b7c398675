"""Tar archives of local files: packing what goes to a sandbox, and unpacking what comes from one.

What comes from a sandbox is not trusted: nothing is written outside of the destination, through no link and by no
name, and no file gets the power of its owner (setuid).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Self

from emberbox_sdk.errors import ArchiveError

PIECE_BYTES: Final = 1 << 18
_CHUNK_BYTES: Final = 1 << 16
_KEPT_MODE: Final = 0o777
_NAMES: Final = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_NAMES_BYTES_MAX: Final = 1 << 20
_PARENT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERWRITES_NOTHING: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FORGED: Final = "do not use what came so far"


class Pieces:
    """A file to read that is made of pieces as they come.

    Args:
        more: returns the next one; an empty one is the last.
    """

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more

    def read(self, _size: int = -1) -> bytes:
        """Return the next piece, of whatever size: `tarfile` takes what comes."""
        return self._more()


# --- packing


def pack(source: str | Path, *, owners: bool = False) -> Iterator[bytes]:
    """Return the pieces of an archive of a file or tree, named after its last part; of `DIR/.`, of what is in it.

    Args:
        source: a local path; a link is packed as a link. Sockets and devices are left out.
        owners: whether files keep their owners; all are root's otherwise.

    Raises:
        OSError: there is nothing at the path, or it cannot be read, which may show only while it is packed.
        ArchiveError: a file became shorter while it was packed.
    """
    text = os.fspath(source)
    os.lstat(text)
    name = Path(text).name
    if name == ".." or text.endswith(("/.", "/..")) or text in (".", "/"):
        name = "."
    return _gathered(_entries(text, name, owners=owners))


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Join small parts, so that a tree of small files is not sent in twice as many packets."""
    held = bytearray()
    for part in parts:
        if not held and len(part) >= PIECE_BYTES:
            yield part
            continue
        held += part
        if len(held) >= PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _entries(source: str, name: str, *, owners: bool) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as made:
        waiting = [(source, name)]
        while waiting:
            path, called = waiting.pop()
            entry: Any = made.gettarinfo(path, called)  # None for a socket, whatever its declared type
            if entry is None or entry.ischr() or entry.isblk():
                continue
            if not owners:
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
            yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if entry.isreg():
                yield from _contents(path, entry.size)
            elif entry.isdir():
                waiting += [(f"{path}/{one}", f"{called}/{one}") for one in _names_in(path)]
    yield bytes(2 * tarfile.BLOCKSIZE)


def _names_in(path: str) -> list[str]:
    return sorted((one.name for one in Path(path).iterdir()), reverse=True)


def _contents(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - names may be no UTF-8, of which Path makes nothing more
        while left:
            part = file.read(min(left, PIECE_BYTES))
            if not part:
                raise ArchiveError(f"{path} became shorter while it was read", "copy it again when nobody writes to it")
            left -= len(part)
            yield part
    yield bytes(-size % tarfile.BLOCKSIZE)


# --- unpacking


def unpack(stream: Pieces | IO[bytes], destination: str | Path, *, into: bool = True, owners: bool = False) -> None:
    """Unpack an archive.

    Args:
        stream: the archive.
        destination: a local path.
        into: whether it is a directory that takes it, and is made where it is missing. Otherwise as `cp` has it: into
            a directory that is there, or else to this very name.
        owners: whether files keep their owners, where this process is root's.

    Raises:
        ArchiveError: what came is no archive, or it holds what it must not.
        OSError: the destination cannot be written.
    """
    target = Path(destination)
    if into:
        target.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        unpacker = _Unpacker(target, None, owners=owners)
    else:
        if os.fspath(destination).endswith("/") or not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such directory here", os.fspath(destination))
        unpacker = _Unpacker(target.parent, target.name, owners=owners)
    file: Any = stream  # of which tarfile uses `read` alone
    try:
        with tarfile.open(mode="r|", fileobj=file, bufsize=_CHUNK_BYTES, tarinfo=_Entry) as archive:
            unpacker.take(archive)
    except (tarfile.TarError, RecursionError, OverflowError) as error:
        raise ArchiveError(f"what came is no archive: {error}", _FORGED) from error


class _Entry(tarfile.TarInfo):
    """An entry whose names are bounded: `tarfile` reads them into memory, of whatever size the archive states."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Raises:
            ArchiveError: it announces a name that no file has, or a file with holes, which the agent never sends.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in _NAMES and not 0 <= entry.size <= _NAMES_BYTES_MAX:
            raise ArchiveError(f"what came is no archive: a name of {entry.size} bytes", _FORGED)
        if entry.type == tarfile.GNUTYPE_SPARSE or entry.size < 0:
            raise _not_copied(entry)
        return entry


def _not_copied(entry: tarfile.TarInfo) -> ArchiveError:
    return ArchiveError(f"{entry.name}: this kind of file is not copied", _FORGED)


class _Unpacker:
    """Unpacks beneath one directory.

    Args:
        base: the directory.
        rename_to: what the archive's one top entry is to be called.
        owners: whether files keep their owners.
    """

    def __init__(self, base: Path, rename_to: str | None, *, owners: bool) -> None:
        self._base = base
        self._rename_to = rename_to
        self._top: str | None = None
        self._owners = owners and os.geteuid() == 0

    def take(self, archive: tarfile.TarFile) -> None:
        for entry in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it remembers every entry
            parts = self._parts_of(entry.name)
            if parts:
                with self._open_parent(parts) as parent:
                    self._take_one(archive, entry, parts[-1], parent)
            elif self._rename_to is not None and entry.isdir():  # the contents of a directory, for a new one
                self._base /= self._rename_to
                self._base.mkdir(entry.mode & _KEPT_MODE)
                self._rename_to = None

    def _parts_of(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or name.startswith("/"):
            raise ArchiveError(f"{name}: the archive points out of the destination", _FORGED)
        if parts and self._rename_to is not None:
            if self._top not in (None, parts[0]):
                raise ArchiveError(f"{self._rename_to}: several files need a directory to go to", "name one")
            self._top, parts[0] = parts[0], self._rename_to
        return parts

    @contextlib.contextmanager
    def _open_parent(self, parts: list[str]) -> Iterator[int]:
        """Open the directory of an entry step by step: a link on the way is refused."""
        current = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                try:
                    below = os.open(part, _PARENT, dir_fd=current)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
                        raise
                    what = "is missing" if error.errno == errno.ENOENT else "leads through a link or a file"
                    raise ArchiveError(f"{'/'.join(parts)}: the way there {what}", _FORGED) from error
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _take_one(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, name: str, parent: int) -> None:
        if entry.isdir():
            self._make_directory(entry, name, parent)
        elif entry.isreg():
            self._write_file(archive, entry, name, parent)
        elif entry.issym():
            _remove(name, parent)
            os.symlink(entry.linkname, name, dir_fd=parent)
            self._set_owner(entry, name, parent)
        elif entry.isfifo():
            _remove(name, parent)
            os.mkfifo(name, entry.mode & _KEPT_MODE, dir_fd=parent)
            self._set_owner(entry, name, parent)
        else:
            raise _not_copied(entry)

    def _set_owner(self, entry: tarfile.TarInfo, name: str, parent: int) -> None:
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)

    def _make_directory(self, entry: tarfile.TarInfo, name: str, parent: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            opened = os.open(name, _PARENT, dir_fd=parent)
        except NotADirectoryError as error:  # a link, too
            raise ArchiveError(f"{entry.name}: what is there already is no directory", "remove it") from error
        try:
            if self._owners:
                os.fchown(opened, entry.uid, entry.gid)
            # Its owner must be able to fill it, whatever its mode in the sandbox.
            os.fchmod(opened, entry.mode & _KEPT_MODE | (0 if os.geteuid() == 0 else 0o700))
        finally:
            os.close(opened)

    def _write_file(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, name: str, parent: int) -> None:
        content = archive.extractfile(entry)
        assert content is not None
        _remove(name, parent)
        with os.fdopen(os.open(name, _OVERWRITES_NOTHING, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
            file.flush()
            if self._owners:
                os.fchown(file.fileno(), entry.uid, entry.gid)
            os.fchmod(file.fileno(), entry.mode & _KEPT_MODE)
            os.utime(file.fileno(), (entry.mtime, entry.mtime))


def _remove(name: str, parent: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
