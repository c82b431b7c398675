"""The contents of objects: files that are written once, synced, named by the index, and removed.

A file that no row names does not exist for anybody; so nothing has to be renamed when an upload is complete, and what
a power cut leaves half-written is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_COPY_BYTES: Final = 8 << 20
_FLUSH_BYTES: Final = 64 << 20  # so often a long upload is pushed to the disk, or the end would wait for all of it


class Files:
    """The files of one store.

    Args:
        directory: where they are; made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._readers: Counter[str] = Counter()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        for number in range(256):
            (directory / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self._directory / name[:2] / name

    def new_name(self) -> str:
        """Return the name of a file that does not exist yet."""
        return secrets.token_hex(16)

    @contextlib.contextmanager
    def writing(self) -> Iterator[NewFile]:
        """Make a file; when the block has failed, it is gone.

        Raises:
            OSError: the disk is full.
        """
        new = NewFile(self, self.new_name())
        try:
            yield new
        except BaseException:
            new.discard()
            raise
        finally:
            new.close()

    def link(self, name: str) -> str:
        """Return the name of a further file with the content of one: the same bytes on the disk."""
        other = self.new_name()
        try:
            self.path(other).hardlink_to(self.path(name))
        except FileNotFoundError:
            raise
        except OSError:  # too many names, or a file system without links
            with self.path(name).open("rb") as source, self.writing() as new:
                while data := source.read(_COPY_BYTES):
                    new.write(data)
                new.finish()
                return new.name
        self.sync_directory(other)
        return other

    def sync_directory(self, name: str) -> None:
        """Make sure that a file's name survives a power cut."""
        handle = os.open(self.path(name).parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def hold(self, names: Sequence[str]) -> bool:
        """Keep files until they are released, whoever removes them; False when one is gone already."""
        with self._lock:
            self._readers.update(names)
        if all(self.path(name).exists() for name in names):
            return True
        self.release(names)
        return False

    def release(self, names: Sequence[str]) -> None:
        """Let go of files that were held."""
        with self._lock:
            self._readers.subtract(names)
            unread = {name for name in names if self._readers[name] <= 0}
            for name in unread:
                del self._readers[name]
            gone = unread & self._waiting
            self._waiting -= gone
        self.remove(gone)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that no row names any more, at once or when nobody holds them."""
        with self._lock:
            held = {name for name in names if name in self._readers}
            self._waiting |= held
        for name in names:
            if name not in held:
                self.path(name).unlink(missing_ok=True)

    def sweep(self, named: set[str]) -> int:
        """Remove every file that is not named; return how many. Only while nothing is written."""
        found = 0
        for folder in self._directory.iterdir():
            for path in folder.iterdir():
                if path.name not in named:
                    path.unlink()
                    found += 1
        return found


class NewFile:
    """A file that is being written; made by `Files.writing`."""

    def __init__(self, files: Files, name: str) -> None:
        self.name = name
        self.size = 0
        self._files = files
        self._handle = os.open(files.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        """Add bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= _FLUSH_BYTES:
            os.fdatasync(self._handle)
            self._unsynced = 0

    def finish(self) -> None:
        """Bring it onto stable storage."""
        os.fsync(self._handle)
        self._files.sync_directory(self.name)

    def discard(self) -> None:
        """Remove it."""
        self._files.remove([self.name])

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)
