"""Archives of images: a tar of an OCI layout, or what `docker save` writes, each of them perhaps compressed by gzip."""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Self

from emberbox.images.oci.documents import (
    CONFIG,
    DOCUMENT_BYTES_MAX,
    INDEX,
    LAYER,
    LAYER_GZIP,
    LAYERS_MAX,
    MANIFEST,
    Descriptor,
    Document,
    Source,
    as_list,
    as_object,
    as_text,
    digest_of,
    invalid,
    parse_json,
)
from emberbox.images.oci.layers import CHUNK

_GZIP: Final = b"\x1f\x8b"
_MAGIC_AT, _MAGIC = 257, b"ustar"
_MEMBERS_MAX: Final = 10_000
_NAMES_BYTES_MAX: Final = 64 << 10
_LAYOUT, _INDEX, _MANIFEST = "oci-layout", "index.json", "manifest.json"


def is_image_archive(path: Path) -> bool:
    """Say whether an artifact is an archive of an image: a tar, or something compressed by gzip, and not a zip."""
    with path.open("rb") as file:
        beginning = file.read(_MAGIC_AT + len(_MAGIC))
    return beginning.startswith(_GZIP) or beginning[_MAGIC_AT:] == _MAGIC


@contextmanager
def opened(path: Path, unpacked: Path, max_bytes: int) -> Iterator[Source]:
    """Open an archive of an image.

    Args:
        path: the archive.
        unpacked: a file to make where it is compressed.
        max_bytes: how large that may become.

    Raises:
        BuildError: it is none.
    """
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    with _damage():
        if is_packed:
            _unpack(path, unpacked, max_bytes)
            path.unlink()
            path = unpacked
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            members = _Members(archive)
            if _INDEX in members and _LAYOUT in members:
                yield LayoutArchive(members)
            elif _MANIFEST in members:
                yield DockerArchive(members)
            else:
                raise invalid(
                    f"it is an archive, but there is neither {_LAYOUT} with {_INDEX} (an OCI layout) nor {_MANIFEST} "
                    "(docker save) in it; an application's files with their Dockerfile are sent as a zip"
                )


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what gzip and tarfile raise about damaged input into ARCHIVE_INVALID."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, tarfile.TarError, EOFError) as error:
        raise invalid(f"it is no intact archive of an image ({error}); make it anew") from error
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise invalid(f"it cannot be read ({type(error).__name__}); make it anew") from error


def _unpack(path: Path, unpacked: Path, max_bytes: int) -> None:
    with gzip.open(path) as source, unpacked.open("xb") as file:
        while piece := source.read(CHUNK):
            if file.tell() + len(piece) > max_bytes:
                raise invalid("it is larger than the limit unpacked (EMBERBOX_ARTIFACT_MAX_UNPACKED_BYTES)")
            file.write(piece)


class _Member(tarfile.TarInfo):
    """An entry whose names are bounded: `tarfile` reads them into memory, of whatever size the archive states."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Raises:
            BuildError: it announces a name that no file has, or a file with holes.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.size < 0 or (not entry.isreg() and entry.size > _NAMES_BYTES_MAX):
            raise invalid("it has an entry of an impossible size; make the archive anew")
        return entry


class _Members:
    """The files of an archive, by names without what means nothing; of two with the same name the last counts."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for entry in archive:
            if len(self._members) >= _MEMBERS_MAX:
                raise invalid(f"it has more than {_MEMBERS_MAX} files; it is no archive of an image")
            self._members[posixpath.normpath(entry.name)] = entry

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        """Open a file of the archive.

        Raises:
            BuildError: there is none.
        """
        found = self._members.get(posixpath.normpath(name))
        if found is not None and found.issym():  # `docker save` has once written a layer that is there twice so
            place = posixpath.join(posixpath.dirname(posixpath.normpath(name)), found.linkname)
            found = self._members.get(posixpath.normpath(place))
        file = self._archive.extractfile(found) if found is not None and found.isreg() else None
        if file is None or found is None or found.issparse():
            raise invalid(f"there is no file {name!r} in the archive; make it anew")
        return file

    def read(self, name: str) -> bytes:
        """Return a document.

        Raises:
            BuildError: there is none, or it is too large.
        """
        with self.open(name) as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
        if len(content) > DOCUMENT_BYTES_MAX:
            raise invalid(f"{name!r} is larger than {DOCUMENT_BYTES_MAX} bytes")
        return content

    def pieces(self, name: str) -> Iterator[bytes]:
        """Return a file's content, piece by piece.

        Raises:
            BuildError: there is none.
        """
        with self.open(name) as file:
            while piece := file.read(CHUNK):
                yield piece


class LayoutArchive:
    """An OCI layout: see `documents.Source`."""

    def __init__(self, members: _Members) -> None:
        self._members = members

    def top(self) -> Document:
        """See there."""
        return Document(INDEX, self._members.read(_INDEX))

    def document(self, descriptor: Descriptor) -> bytes:
        """See there."""
        return self._members.read(_blob(descriptor))

    def blob(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """See there."""
        for piece in self._members.pieces(_blob(descriptor)):
            write(piece)


def _blob(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


class DockerArchive:
    """What `docker save` writes: see `documents.Source`.

    It has no digests but those of the layers uncompressed, in the config; so they are made here.
    """

    def __init__(self, members: _Members) -> None:
        self._members = members
        (image,) = self._images()
        config = members.read(as_text(image.get("Config"), "Config of manifest.json"))
        self._contents = {digest_of(config): config}
        self._names: dict[str, str] = {}
        names = [as_text(name, "Layers of manifest.json") for name in as_list(image.get("Layers"), "Layers")]
        if len(names) > LAYERS_MAX:
            raise invalid(f"it has more than {LAYERS_MAX} layers; build it with fewer steps")
        described = {name: self._describe(name) for name in set(names)}
        layers = [described[name] for name in names]
        manifest = {"schemaVersion": 2, "config": _entry(CONFIG, digest_of(config), len(config)), "layers": layers}
        self._manifest = Document(MANIFEST, json.dumps(manifest).encode())

    def _images(self) -> list[dict[str, Any]]:
        images = as_list(parse_json(self._members.read(_MANIFEST), _MANIFEST), _MANIFEST)
        if len(images) != 1:
            raise invalid(f"it has {len(images)} images; make an archive of one")
        return [as_object(images[0], _MANIFEST)]

    def _describe(self, name: str) -> dict[str, Any]:
        digest, size, beginning = hashlib.sha256(), 0, b""
        for piece in self._members.pieces(name):
            beginning = beginning or piece[: len(_GZIP)]
            digest.update(piece)
            size += len(piece)
        named = f"sha256:{digest.hexdigest()}"
        self._names[named] = name
        return _entry(LAYER_GZIP if beginning == _GZIP else LAYER, named, size)

    def top(self) -> Document:
        """See there."""
        return self._manifest

    def document(self, descriptor: Descriptor) -> bytes:
        """See there."""
        return self._contents[descriptor.digest]

    def blob(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """See there."""
        for piece in self._members.pieces(self._names[descriptor.digest]):
            write(piece)


def _entry(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
