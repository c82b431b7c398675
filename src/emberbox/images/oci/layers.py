"""A layer, judged before anything unpacks it: its size, its digest, and every name in it.

The tools that unpack layers are well kept and stay below their root directory by themselves (chroot). What is refused
here, they would refuse with words that help nobody, or take: files with holes that fill a disk, an overlay's own marks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from emberbox.images.oci.documents import LAYER_GZIP, invalid
from emberbox.model.errors import BuildError

CHUNK: Final = 256 << 10
WHITEOUT: Final = ".wh."
"""What takes a name away begins so (OCI image layer specification, "Whiteouts")."""

ENTRIES_MAX: Final = 1_000_000
_HEADER_BYTES_MAX: Final = 1 << 20
"""Of one header: long names and extended attributes; `tarfile` reads each in one piece."""

_LONGEST_NAME: Final = 255  # bytes; NAME_MAX
_LONGEST_PATH: Final = 4095  # bytes; PATH_MAX
_OVERLAYS_OWN: Final = ("trusted.overlay.", "user.overlay.")
_DEVICES: Final = "dev"
"""The one directory whose devices and pipes are taken: archives of root file systems have them there, and a guest's
own /dev is over them."""


@dataclass(slots=True)
class Budget:
    """What all layers of an image together may still become.

    Args:
        unpacked_bytes: bytes uncompressed.
        entries: files, directories, links.
    """

    unpacked_bytes: int
    entries: int = ENTRIES_MAX


class ForwardFile(io.RawIOBase):
    """A file that is read once, from its beginning to its end, and never much at once.

    `tarfile` would go where an archive tells it to, and read as much as it states.

    Args:
        source: what is read.
        max_bytes: how much that may be.
        too_large: what is wrong where it is more.
    """

    def __init__(self, source: BinaryIO, max_bytes: int, too_large: str) -> None:
        super().__init__()
        self._source = source
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._hash = hashlib.sha256()
        self._at = 0

    @property
    def digest(self) -> str:
        """The digest of what was read."""
        return f"sha256:{self._hash.hexdigest()}"

    def tell(self) -> int:
        """Say how much was read."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            BuildError: it is too much.
        """
        if size is None or not 0 <= size <= _HEADER_BYTES_MAX:
            raise invalid(f"a layer has a header of more than {_HEADER_BYTES_MAX} bytes")
        found = b""
        while len(found) < size and (piece := self._source.read(size - len(found))):
            found += piece
        self._at += len(found)
        if self._at > self._max_bytes:
            raise invalid(self._too_large)
        self._hash.update(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on to a place, by reading.

        Raises:
            BuildError: it is behind.
        """
        if whence != io.SEEK_SET or offset < self._at:
            raise invalid("a layer is no intact tar archive; make the image anew")
        while self._at < offset:
            if not self.read(min(CHUNK, offset - self._at)):
                break
        return self._at


def check_layer(blob: Path, media_type: str, diff_id: str, budget: Budget) -> None:
    """Judge a layer.

    Args:
        blob: its file, whose own digest is checked already.
        media_type: OCI's.
        diff_id: its digest uncompressed, as the config says it.
        budget: what it may become; what it takes is taken off.

    Raises:
        BuildError: it is not as it should be.
    """
    too_large = "the image is larger than the limit unpacked (EMBERBOX_ARTIFACT_MAX_UNPACKED_BYTES)"
    with _tar_errors(), _opened(blob, media_type) as source:
        file = ForwardFile(source, budget.unpacked_bytes, too_large)
        _check_entries(file, budget)
        while rest := file.read(CHUNK):
            if rest.strip(b"\0"):
                raise invalid("a layer goes on after its end; make the image anew")
    budget.unpacked_bytes -= file.tell()
    if file.digest != diff_id:
        raise invalid(f"a layer unpacks to {file.digest}, but the config says {diff_id}; make the image anew")


@contextmanager
def _opened(blob: Path, media_type: str) -> Iterator[BinaryIO]:
    with blob.open("rb") as file:
        if media_type != LAYER_GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast("BinaryIO", unpacked)


@contextmanager
def _tar_errors() -> Iterator[None]:
    """Turn everything that gzip and tarfile raise about damaged input into ARCHIVE_INVALID."""
    try:
        yield
    except BuildError:
        raise
    except (gzip.BadGzipFile, zlib.error, tarfile.TarError, EOFError) as error:
        raise invalid(f"a layer is not intact ({error}); make the image anew") from error
    except (ValueError, OverflowError, RecursionError, MemoryError, KeyError, IndexError, TypeError) as error:
        raise invalid(f"a layer cannot be read ({type(error).__name__}); make the image anew") from error


def _check_entries(file: ForwardFile, budget: Budget) -> None:
    beginning = file.tell()
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - nothing of it is open
    except tarfile.ReadError:
        if file.tell() == beginning:
            return  # nothing at all: some tools make such a layer for a step without files
        raise
    while (entry := archive.next()) is not None:
        cast("Any", archive).members = []  # else it keeps them all
        budget.entries -= 1
        if budget.entries < 0:
            raise invalid(f"the image has more than {ENTRIES_MAX} files and directories")
        check_entry(entry)


def check_entry(entry: tarfile.TarInfo) -> None:
    """Judge a file, directory or link of a layer.

    Raises:
        BuildError: it must not be there.
    """
    path = _clean(entry.name, "name")
    if entry.issparse() or any(key.startswith("GNU.sparse") for key in entry.pax_headers):
        raise invalid(f"a layer has a file with holes, {path!r}; pack it without --sparse")
    if any(key.partition(".xattr.")[2].startswith(_OVERLAYS_OWN) for key in entry.pax_headers):
        raise invalid(f"a layer has {path!r} with an attribute of the kernel's overlay; make the image anew")
    if entry.islnk():
        if not _clean(entry.linkname, "hard link"):
            raise invalid(f"a layer has a hard link to its root, {path!r}")
    elif entry.issym():
        _check_text(entry.linkname, "link")
    elif entry.ischr() or entry.isblk() or entry.isfifo():
        _check_device(entry, path)
    elif not (entry.isreg() or entry.isdir()):
        raise invalid(f"a layer has {path!r} of a kind that is not taken: {entry.type!r}")
    _check_whiteout(path)


def _check_device(entry: tarfile.TarInfo, path: str) -> None:
    if entry.ischr() and entry.devmajor == entry.devminor == 0:
        raise invalid(f"a layer has {path!r}, a mark of the kernel's overlay and no file; make the image anew")
    if not path.startswith(f"{_DEVICES}/"):
        raise invalid(f"a layer has a device or pipe outside of /{_DEVICES}, {path!r}; leave it out")


def _check_whiteout(path: str) -> None:
    name = posixpath.basename(path)
    if name.startswith(WHITEOUT) and name.removeprefix(WHITEOUT) in ("", ".", ".."):
        raise invalid(f"a layer takes away what has no name, {path!r}; make the image anew")


def _clean(name: str, what: str) -> str:
    """Return a path without what means nothing; a leading slash is the image's root, as it is for Docker."""
    _check_text(name, what)
    path = posixpath.normpath(f"./{name.lstrip('/')}")
    if path.split("/")[0] == "..":
        raise invalid(f"a layer has a {what} that leads outside, {name!r}; make the image anew")
    if any(len(part) > _LONGEST_NAME for part in path.encode(errors="surrogateescape").split(b"/")):
        raise invalid(f"a layer has a {what} that is too long: {name[:_LONGEST_NAME]!r} ...")
    return "" if path == "." else path


def _check_text(name: str, what: str) -> None:
    if not name or "\0" in name or len(name.encode(errors="surrogateescape")) > _LONGEST_PATH:
        raise invalid(f"a layer has a {what} that no file can have: {name[:_LONGEST_NAME]!r}")
