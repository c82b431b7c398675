"""Code artifacts: a zip in S3 with a Dockerfile at its root, fetched and unpacked into a build context.

The archive is a stranger's. Nothing that it says about itself is believed: bytes are counted as they come
out, names are judged before anything is written, and links are made last, so that nothing is ever written
through one. What fails ends the build with the reason codes of the AWS service (`S3_NO_SUCH_KEY`,
`ARCHIVE_INVALID`, ...).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import posixpath
import re
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from emberbox.model.errors import BuildError

_CHUNK: Final = 256 << 10
_URI: Final = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_LONGEST_NAME: Final = 255  # bytes; what Linux file systems allow (NAME_MAX)
_LONGEST_PATH: Final = 2048
_LONGEST_TARGET: Final = 4095
_RATIO_FLOOR_BYTES: Final = 16 << 20
_UNIX, _DARWIN = 3, 19  # "version made by" of APPNOTE.TXT 4.4.2: entries of these carry a Unix mode
_ENCRYPTED: Final = 0x1  # bit 0 of the general purpose flags, APPNOTE.TXT 4.4.4
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNTOLD: Final = (0, 0o600)  # without a file type: nobody's mode, or the one that Python's `writestr` makes up
_PROGRAMS: Final = (b"#!", b"\x7fELF")
_DOCKERFILE_BYTES_MAX: Final = 1 << 20
_COMMENT: Final = re.compile(rb"^\s*#.*$", re.MULTILINE)
_NO_LETTERS: Final = re.compile(rb"[^a-z]+")
_LINKS_FOLLOWED: Final = 40  # as Linux does (MAXSYMLINKS)
# What buildah reads from the context itself, as root and outside of any container.
_READ_BY_BUILDAH: Final = ("Dockerfile", "Containerfile", ".dockerignore", ".containerignore")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_REASONS: Final = {
    "NoSuchKey": ("S3_NO_SUCH_KEY", "there is no such object; check the key, and upload the zip first"),
    "404": ("S3_NO_SUCH_KEY", "there is no such object; check the key, and upload the zip first"),
    "NoSuchBucket": ("S3_NO_SUCH_BUCKET", "there is no such bucket; check its name in codeArtifact.uri"),
    "InvalidBucketName": ("S3_NO_SUCH_BUCKET", "that is no name of a bucket; check codeArtifact.uri"),
    "InvalidObjectState": ("S3_INVALID_OBJECT", "the object is archived; restore it or upload it again"),
    "PermanentRedirect": ("S3_CROSS_REGION_ACCESS_DENIED", "the bucket is in another region"),
    "AuthorizationHeaderMalformed": ("S3_CROSS_REGION_ACCESS_DENIED", "the bucket is in another region"),
    "301": ("S3_CROSS_REGION_ACCESS_DENIED", "the bucket is in another region"),
}
_DENIED: Final = ("S3_ACCESS_DENIED", "reading was denied; the build role needs s3:GetObject on the object")
_DENIED_CODES: Final = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class S3Client(Protocol):
    """What is used of a botocore client for S3."""

    @property
    def get_object(self) -> Callable[..., Mapping[str, Any]]:
        """Call S3's GetObject."""
        ...


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may become.

    Args:
        files: entries, directories and links included.
        file_bytes: unpacked size of one file.
        total_bytes: unpacked size of all files.
        ratio: total unpacked size, as a multiple of the archive's; checked from 16 MiB on.
    """

    files: int = 100_000
    file_bytes: int = 2 << 30
    total_bytes: int = 8 << 30
    ratio: int = 200


def check_readable(uri: str, prefixes: Sequence[str] | None) -> None:
    """Refuse an artifact that the build role may not read.

    Args:
        uri: `s3://<bucket>/<key>`.
        prefixes: what it may read; None where nothing is said.

    Raises:
        BuildError: S3_ACCESS_DENIED.
    """
    if prefixes is not None and not uri.startswith(tuple(prefixes)):
        allowed = ", ".join(prefixes) or "nothing"
        raise BuildError("S3_ACCESS_DENIED", f"the build role may not read {uri}; it may read {allowed}")


async def fetch(client: S3Client, uri: str, destination: Path, max_bytes: int, owner: str | None = None) -> None:
    """Fetch an artifact from S3 into a file, which appears complete or not at all.

    Args:
        client: a botocore client for S3; its calls run in a thread.
        uri: `s3://<bucket>/<key>`.
        destination: the file to make.
        max_bytes: the largest size accepted.
        owner: the account that the bucket must belong to; None for any.

    Raises:
        BuildError: with one of the S3 reasons; `ARCHIVE_INVALID` when it is too large; `DISK_STORAGE_FULL`;
            `INTERNAL_PLATFORM_ERROR` when S3 fails or cannot be reached.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise BuildError("S3_NO_SUCH_KEY", f"{uri} is not of the form s3://<bucket>/<key>")
    cancelled = threading.Event()
    try:
        await asyncio.to_thread(_fetch, client, (match[1], match[2], owner), destination, max_bytes, cancelled)
    except asyncio.CancelledError:
        cancelled.set()  # a thread cannot be stopped from outside
        raise


def _fetch(
    client: S3Client, place: tuple[str, str, str | None], destination: Path, max_bytes: int, cancelled: threading.Event
) -> None:
    bucket, key, owner = place
    condition = {} if owner is None else {"ExpectedBucketOwner": owner}
    temporary = destination.with_name(f".{destination.name}.fetching")
    try:
        with _disk_errors(), _s3_errors(f"s3://{bucket}/{key}"):
            body = client.get_object(Bucket=bucket, Key=key, **condition)["Body"]
            with contextlib.closing(body), temporary.open("wb") as file:
                _copy(body, file, max_bytes, cancelled)
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(body: Any, file: io.BufferedWriter, max_bytes: int, cancelled: threading.Event) -> None:
    size = 0
    for chunk in body.iter_chunks(_CHUNK):
        size += len(chunk)
        if size > max_bytes:
            raise BuildError("ARCHIVE_INVALID", f"the artifact is larger than {max_bytes} bytes; make it smaller")
        if cancelled.is_set():
            raise BuildError("INTERNAL_PLATFORM_ERROR", "the build was cancelled")
        file.write(chunk)


@contextlib.contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    """Turn botocore's errors into reasons."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        found = _REASONS.get(code)
        if found is None and (code in _DENIED_CODES or status == 403):
            found = _DENIED
        reason, advice = found or ("INTERNAL_PLATFORM_ERROR", f"S3 answered {code}; try the build again")
        raise BuildError(reason, f"{uri}: {advice}") from error
    except NoCredentialsError as error:
        raise BuildError("S3_ACCESS_DENIED", f"{uri}: there are no credentials for S3") from error
    except BotoCoreError as error:
        raise BuildError("INTERNAL_PLATFORM_ERROR", f"{uri}: {error}; try the build again") from error


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn a full disk into its reason; leave other errors of the system alone."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise BuildError("DISK_STORAGE_FULL", "the disk is full; free some space and build again") from error
        raise


def unpack(archive: Path, destination: Path, limits: UnpackLimits) -> None:
    """Unpack an artifact into a new directory, which appears complete or not at all.

    Blocks; call it in a thread. Regular files, directories and symbolic links come out, with their permissions but
    never setuid, setgid or sticky bits. Where the archive's maker wrote none, programs can be executed. Links that are
    relative stay inside. Absolute ones mean a path in the image, as in a virtual environment, so they come out as they
    are: nobody may follow them here.

    Args:
        archive: the zip.
        destination: the directory to make; it may exist when it is empty.
        limits: what the archive may become.

    Raises:
        BuildError: `ARCHIVE_INVALID` with what is wrong; `ARCHIVE_DOCKERFILE_NOT_FOUND`; `DISK_STORAGE_FULL`.
    """
    with _disk_errors():
        work = Path(tempfile.mkdtemp(prefix=f".{destination.name}.unpacking-", dir=destination.parent))
        try:
            with _zip_errors():
                _Unpacking(archive, work, limits).run()
            work.chmod(0o755)
            work.rename(destination)
        except BaseException:
            shutil.rmtree(work)
            raise


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn everything that zipfile and zlib raise about damaged input into ARCHIVE_INVALID."""
    try:
        yield
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError) as error:
        raise _invalid(f"it is not an intact zip file ({error}); zip it again") from error
    except (ValueError, NotImplementedError, RuntimeError, OverflowError, MemoryError) as error:
        raise _invalid(f"it cannot be read ({error}); zip it again") from error


def _invalid(what: str) -> BuildError:
    return BuildError("ARCHIVE_INVALID", what)


class _Unpacking:
    """One archive on its way into one directory."""

    def __init__(self, archive: Path, root: Path, limits: UnpackLimits) -> None:
        self._archive = archive
        self._root = root
        self._limits = limits
        self._total_bytes = 0
        self._most_bytes = min(limits.total_bytes, max(_RATIO_FLOOR_BYTES, limits.ratio * archive.stat().st_size))

    def run(self) -> None:
        with (
            _DirectoryBoundedFile(self._archive, self._limits.files) as file,
            zipfile.ZipFile(file) as opened,
        ):
            entries = _plan(opened, self._limits)
            links = {}
            for path, entry in entries.items():
                if _is_directory(entry):
                    self._make_directory(path)
                elif _is_link(entry):
                    links[path] = self._read_target(opened, path, entry)
                else:
                    self._write_file(opened, path, entry)
        self._make_links(links)
        self._restore_directory_modes(entries)

    def _make_directory(self, path: str) -> None:
        (self._root / path).mkdir(parents=True, exist_ok=True)

    def _write_file(self, opened: zipfile.ZipFile, path: str, entry: zipfile.ZipInfo) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        beginning = b""
        with os.fdopen(handle, "wb") as file:
            most_bytes = _DOCKERFILE_BYTES_MAX if path == "Dockerfile" else self._limits.file_bytes
            for chunk in self._contents(opened, path, entry, most_bytes):
                beginning = beginning or chunk[: max(map(len, _PROGRAMS))]
                file.write(chunk)
            usual = 0o755 if beginning.startswith(_PROGRAMS) else 0o644
            os.fchmod(handle, _permissions(entry, usual) | 0o600)

    def _contents(self, opened: zipfile.ZipFile, path: str, entry: zipfile.ZipInfo, most_bytes: int) -> Iterator[bytes]:
        """Unpack one entry, counting what really comes out."""
        size = 0
        with opened.open(entry) as source:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                self._total_bytes += len(chunk)
                if size > most_bytes:
                    raise _invalid(f"{path!r} is larger than {most_bytes} bytes unpacked")
                if self._total_bytes > self._most_bytes:
                    raise _invalid(f"it is larger than {self._most_bytes} bytes unpacked")
                yield chunk

    def _read_target(self, opened: zipfile.ZipFile, path: str, entry: zipfile.ZipInfo) -> str:
        target = os.fsdecode(b"".join(self._contents(opened, path, entry, _LONGEST_TARGET)))
        # This judges the text alone; where a link really leads is checked when all links are known.
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if not target or "\0" in target or inside.split("/")[0] == "..":
            raise _invalid(f"the link {path!r} leads out of the archive; links must stay inside it")
        return target

    def _make_links(self, links: Mapping[str, str]) -> None:
        """Make all links that lead nowhere outside: one link's target may lead through another."""
        may_mount = _may_mount(self._root / "Dockerfile")
        for path, target in links.items():
            if _leads_out(path, links):
                raise _invalid(f"the link {path!r} leads out of the archive; links must stay inside it")
            if may_mount and target.startswith("/"):
                raise _invalid(
                    f"the link {path!r} is absolute, and the Dockerfile mounts something, which could follow it on "
                    "this machine; make the link in a RUN step, or do without --mount"
                )
        for path, target in links.items():
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            (self._root / path).symlink_to(target)

    def _restore_directory_modes(self, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        for path, entry in entries.items():
            if _is_directory(entry):
                (self._root / path).chmod(_permissions(entry, 0o755) | 0o700)


def _plan(opened: zipfile.ZipFile, limits: UnpackLimits) -> dict[str, zipfile.ZipInfo]:
    """Judge all names and kinds before anything is written; return the entries by their clean paths."""
    found = opened.infolist()
    if len(found) > limits.files:
        raise _invalid(f"it has more than {limits.files} entries")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in found:
        path = _clean_path(entry)
        if not path:
            continue  # "./", the root itself
        if path in entries:
            raise _invalid(f"it has {path!r} twice")
        _check_kind(path, entry)
        entries[path] = entry
    _check_parents(entries)
    dockerfile = entries.get("Dockerfile")
    if dockerfile is None or _is_directory(dockerfile) or _is_link(dockerfile):
        raise BuildError("ARCHIVE_DOCKERFILE_NOT_FOUND", "put a regular file named Dockerfile at the zip's root")
    for name in _READ_BY_BUILDAH:
        if name in entries and _is_link(entries[name]):
            raise _invalid(f"{name!r} is a link; make it a regular file")
    return entries


def _clean_path(entry: zipfile.ZipInfo) -> str:
    """Judge a name; return it without `.` and doubled slashes."""
    name = _name(entry)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\0" in name or ".." in parts or _DRIVE.match(name):
        raise _invalid(f"the name {entry.orig_filename!r} is not a plain relative path")
    if len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise _invalid(f"the name {name[:80]!r}... is too long")
    return "/".join(parts)


def _check_kind(path: str, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise _invalid(f"{path!r} is encrypted; zip it without a password")
    if entry.compress_type not in _METHODS:
        raise _invalid(f"{path!r} is compressed by method {entry.compress_type}; use deflate or store")
    kind = stat.S_IFMT(_mode(entry))
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise _invalid(f"{path!r} is a device, pipe or socket; leave it out")
    if kind == (stat.S_IFLNK if _is_directory(entry) else stat.S_IFDIR):
        raise _invalid(f"{path!r} is a directory by its name or by its mode, but not by both")


def _check_parents(entries: Mapping[str, zipfile.ZipInfo]) -> None:
    """Refuse a path that leads through a file or a link of the same archive."""
    for path in entries:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            above = entries.get(parent)
            if above is not None and not _is_directory(above):
                raise _invalid(f"{path!r} is inside {parent!r}, which is no directory")


def _name(entry: zipfile.ZipInfo) -> str:
    """Give an entry's name; on Windows some tools write back slashes, which `unzip` takes for slashes, too."""
    return entry.orig_filename.replace("\\", "/")  # before zipfile cuts it at a NUL


def _is_directory(entry: zipfile.ZipInfo) -> bool:
    return _name(entry).endswith("/")


def _mode(entry: zipfile.ZipInfo) -> int:
    """Give an entry's Unix mode; 0 when its maker wrote none."""
    mode = entry.external_attr >> 16 if entry.create_system in (_UNIX, _DARWIN) else 0
    return 0 if mode in _UNTOLD else mode


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(_mode(entry))


def _leads_out(path: str, links: Mapping[str, str]) -> bool:
    """Say whether a link leads out of the archive, by way of other links perhaps.

    Nothing is looked up on the disk. What leads to an absolute path is a path in the image, and ends there; what goes
    round in circles leads nowhere.
    """
    left, followed = deque(path.split("/")), 0
    reached: list[str] = []
    while left:
        part = left.popleft()
        if part == ".." and not reached:
            return True
        if part == "..":
            reached.pop()
        elif part not in ("", "."):
            reached.append(part)
            target = links.get("/".join(reached))
            if target is not None:
                followed += 1
                if target.startswith("/") or followed > _LINKS_FOLLOWED:
                    return False
                reached.pop()
                left.extendleft(reversed(target.split("/")))
    return False


def _may_mount(dockerfile: Path) -> bool:
    """Say whether a Dockerfile may have a step with `--mount`, in whatever way that is spelled.

    buildah 1.28 binds what a link in the context leads to on this machine; COPY and ADD do not follow it out.
    """
    text = dockerfile.read_bytes().lower()
    return any(b"mount" in _NO_LETTERS.sub(b"", some) for some in (text, _COMMENT.sub(b"", text)))


def _permissions(entry: zipfile.ZipInfo, default: int) -> int:
    return _mode(entry) & 0o777 or default


class _DirectoryBoundedFile(io.FileIO):
    """An archive whose list of contents has a bounded size.

    `zipfile` reads that list in one piece and makes an object of each entry before anyone can count them: a
    small archive could fill the memory.
    """

    def __init__(self, path: Path, files: int) -> None:
        super().__init__(path)
        # An entry takes 46 bytes and its name (APPNOTE.TXT 4.3.12).
        self._most_bytes = max(1 << 20, files * 256)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Seek as a file does, but call an impossible place damage: the archive named it."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            raise zipfile.BadZipFile("an offset is out of range") from error

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but never much at once."""
        if size is not None and size > self._most_bytes:
            raise _invalid("it has too many entries")
        return super().read(-1 if size is None else size) or b""
