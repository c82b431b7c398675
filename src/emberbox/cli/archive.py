"""Tar archives of local files: packing what goes to a microVM, and unpacking what comes from one.

What comes from a microVM is not trusted: nothing is written outside of the destination, through no link and by no
name, and no file gets the power of its owner (setuid).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Self

from emberbox.model.errors import HostError

_CHUNK_BYTES: Final = 1 << 16
_KEPT_MODE: Final = 0o777
_NAMES: Final = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_NAMES_BYTES_MAX: Final = 1 << 20
_PARENT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(source: str, sink: Any) -> None:
    """Write an archive of a file or tree, named after the path's last part; of `DIR/.`, of what is in it.

    Args:
        source: a local path; a link is packed as a link.
        sink: something with `write`.

    Raises:
        HostError: there is nothing at the path, or it cannot be read.
    """
    name = Path(source).name
    if name == ".." or source.endswith(("/.", "/..")) or source in (".", "/"):
        name = "."
    try:
        with tarfile.open(mode="w|", fileobj=sink, format=tarfile.PAX_FORMAT, bufsize=_CHUNK_BYTES) as archive:
            archive.add(source, name, filter=_leave_devices_out)
    except FileNotFoundError as error:
        raise HostError(f"{error.filename}: there is no such file here") from error
    except PermissionError as error:
        raise HostError(f"{error.filename}: you may not read it") from error


def _leave_devices_out(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.ischr() or entry.isblk() else entry


def unpack(stream: IO[bytes], destination: str) -> None:
    """Unpack an archive as `cp` would: into a directory that is there, or else to this very name.

    Args:
        stream: the archive.
        destination: a local path.

    Raises:
        HostError: the destination cannot be written, or the archive holds what it must not.
    """
    target = Path(destination)
    into = target.is_dir()
    if not into and (destination.endswith("/") or not target.parent.is_dir()):
        raise HostError(f"{destination}: there is no such directory here")
    try:
        with tarfile.open(mode="r|", fileobj=stream, bufsize=_CHUNK_BYTES, tarinfo=_Entry) as archive:
            _Unpacker(target if into else target.parent, None if into else target.name).take(archive)
    except (tarfile.TarError, RecursionError, OverflowError) as error:
        raise HostError(f"what came is no archive: {error}") from error
    except OSError as error:
        raise HostError(f"{error.filename or destination}: {error.strerror}") from error


class _Entry(tarfile.TarInfo):
    """An entry whose names are bounded: `tarfile` reads them into memory, of whatever size the archive states."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Raises:
            HostError: it announces a name that no file has, or a file with holes, which the agent never sends.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in _NAMES and not 0 <= entry.size <= _NAMES_BYTES_MAX:
            raise HostError(f"what came is no archive: a name of {entry.size} bytes")
        if entry.type == tarfile.GNUTYPE_SPARSE or entry.size < 0:
            raise HostError(f"{entry.name}: this kind of file is not copied")
        return entry


class _Unpacker:
    """Unpacks beneath one directory.

    Args:
        base: the directory.
        rename_to: what the archive's one top entry is to be called.
    """

    def __init__(self, base: Path, rename_to: str | None) -> None:
        self._base = base
        self._rename_to = rename_to
        self._top: str | None = None

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
            raise HostError(f"{name}: the archive points out of the destination")
        if parts and self._rename_to is not None:
            if self._top not in (None, parts[0]):
                raise HostError(f"{self._rename_to}: several files need a directory to go to")
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
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    raise HostError(f"{'/'.join(parts)}: the way there leads through a link or a file") from error
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _take_one(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, name: str, parent: int) -> None:
        if entry.isdir():
            _make_directory(entry, name, parent)
        elif entry.isreg():
            _write_file(archive, entry, name, parent)
        elif entry.issym():
            _remove(name, parent)
            os.symlink(entry.linkname, name, dir_fd=parent)
            _set_owner(entry, name, parent)
        elif entry.isfifo():
            _remove(name, parent)
            os.mkfifo(name, entry.mode & _KEPT_MODE, dir_fd=parent)
            _set_owner(entry, name, parent)
        else:
            raise HostError(f"{entry.name}: this kind of file is not copied")


def _remove(name: str, parent: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _set_owner(entry: tarfile.TarInfo, name: str, parent: int) -> None:
    if os.geteuid() == 0:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)


def _make_directory(entry: tarfile.TarInfo, name: str, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    opened = os.open(name, _PARENT, dir_fd=parent)
    try:
        if os.geteuid() == 0:
            os.fchown(opened, entry.uid, entry.gid)
        # Its owner must be able to fill it, whatever its mode in the microVM.
        os.fchmod(opened, entry.mode & _KEPT_MODE | (0 if os.geteuid() == 0 else 0o700))
    finally:
        os.close(opened)


def _write_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, name: str, parent: int) -> None:
    content = archive.extractfile(entry)
    assert content is not None
    _remove(name, parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK_BYTES)
        file.flush()
        if os.geteuid() == 0:
            os.fchown(file.fileno(), entry.uid, entry.gid)
        os.fchmod(file.fileno(), entry.mode & _KEPT_MODE)
        os.utime(file.fileno(), (entry.mtime, entry.mtime))
