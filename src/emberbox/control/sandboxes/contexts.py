"""The artifact of a template build: a zip with its Dockerfile, its scripts and the files of its COPY steps.

The archives of the files are a stranger's: nothing is unpacked here, only passed on within bounds; the build judges
names and links of the zip as those of any other (`images/artifact.py`).
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from emberbox.control.sandboxes.recipes import BASE_STEP, FILES, Dockerfile, StepError
from emberbox.model.errors import ValidationError
from emberbox.model.templates import Recipe, StepKind

TOO_LARGE: Final = "the files that are copied are too large together; leave some out with .dockerignore"
_MOMENT: Final = (2020, 1, 1, 0, 0, 0)
_ENTRIES_MAX: Final = 90_000
_UNIX: Final = 3
_PIECE: Final = 1 << 20


def write_context(
    place: Path, dockerfile: Dockerfile, recipe: Recipe, fetch: Callable[[str], Path], bytes_max: int
) -> None:
    """Write the zip; blocks.

    Args:
        place: the file to make.
        dockerfile: of the recipe.
        recipe: says which files are copied.
        fetch: returns a tar archive by its hash, gzip or not; it is removed afterwards.
        bytes_max: what all files may have together.

    Raises:
        StepError: the files of a step are missing, too large or no archive.
        OSError: the disk is full.
    """
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        writing = _Writing(archive, bytes_max)
        writing.add_text("Dockerfile", dockerfile.text)
        for name, text in dockerfile.scripts.items():
            writing.add_text(name, text)
        for files, step in _uploads_of(recipe):
            upload: Path | None = None
            try:
                upload = fetch(files)
                writing.add_archive(upload, f"{FILES}/{files}")
            except ValidationError as error:
                raise StepError(step, error.message) from error
            except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
                raise StepError(step, f"what was uploaded is no tar archive: {error}") from error
            finally:
                if upload is not None:
                    upload.unlink(missing_ok=True)


def _uploads_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Return each upload once, with the step that copies it first."""
    seen: set[str] = set()
    for index, step in enumerate(recipe.steps):
        if step.kind is StepKind.COPY and step.files not in seen:
            seen.add(step.files)
            own = index - recipe.inherited
            yield step.files, BASE_STEP if own < 0 else str(own + 1)


class _Writing:
    """One zip, and how much has gone into it."""

    def __init__(self, archive: zipfile.ZipFile, bytes_max: int) -> None:
        self._archive = archive
        self._left = bytes_max
        self._entries = 0

    def add_text(self, name: str, text: str) -> None:
        self._archive.writestr(_entry(name, stat.S_IFREG | 0o755), text)

    def add_archive(self, upload: Path, directory: str) -> None:
        self._archive.writestr(_entry(f"{directory}/", stat.S_IFDIR | 0o755), b"")
        seen: set[str] = set()
        with tarfile.open(upload, "r:*") as opened:
            for member in opened:
                name = f"{directory}/{member.name.strip('/')}"
                if name in seen or member.name in ("", "."):
                    continue  # SDKs name a directory once for each pattern that finds it
                seen.add(name)
                self._count()
                self._add(opened, member, name)

    def _add(self, opened: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        mode = member.mode & 0o777
        if member.isdir():
            self._archive.writestr(_entry(f"{name}/", stat.S_IFDIR | mode), b"")
        elif member.issym():
            self._archive.writestr(_entry(name, stat.S_IFLNK | 0o777), member.linkname)
        elif member.isfile() or member.islnk():
            source = opened.extractfile(member)
            if source is None:
                raise ValidationError(f"{member.name!r} is a hard link that leads nowhere")
            with source, self._archive.open(_entry(name, stat.S_IFREG | mode), "w", force_zip64=True) as target:
                self._copy(source, target)
        else:
            raise ValidationError(f"{member.name!r} is no file, directory or link, and cannot be copied")

    def _copy(self, source: IO[bytes], target: IO[bytes]) -> None:
        while data := source.read(_PIECE):
            self._left -= len(data)
            if self._left < 0:
                raise ValidationError(TOO_LARGE)
            target.write(data)

    def _count(self) -> None:
        self._entries += 1
        if self._entries > _ENTRIES_MAX:
            raise ValidationError(f"a template copies at most {_ENTRIES_MAX} files; use .dockerignore, or an archive")


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _MOMENT)
    entry.create_system = _UNIX
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
