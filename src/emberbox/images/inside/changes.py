"""What an image's own layers change of the base below them, so that only this has to be packed.

Layers are as overlay has them (kernel documentation, "Overlay Filesystem"): a character device 0:0 takes a name away,
an extended attribute says that a directory shows nothing of the layers below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OPAQUE_MARK = ".wh..wh..opq"
"""A file that stands for that attribute in archives of layers (OCI image layer specification, "Opaque Whiteout")."""

_OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths below the root, each after the directory that it is in.

    Args:
        names: what is to be packed.
        replaced: directories of which nothing of the base is left; all that they hold is in `names`.
    """

    names: tuple[str, ...]
    replaced: tuple[str, ...]


def is_opaque(directory: Path) -> bool:
    """Say whether a directory of a layer shows nothing of the layers below."""
    try:
        return os.getxattr(directory, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def find_changes(
    layers: Sequence[Path], base: Path, merged: Path, hides_base: Callable[[Path], bool] = is_opaque
) -> Changes | None:
    """Compare layers with a base.

    A name that is taken away cannot be packed as such: the directory that it was in is replaced as a whole.

    Args:
        layers: those over the base.
        base: the lowest layer.
        merged: all of them together.
        hides_base: says whether a directory of a layer is opaque.

    Returns:
        None when nearly all has to be packed, as the root directory itself is replaced.
    """
    found = _Found(base)
    for layer in layers:
        for directory, below, files in _walk(layer):
            found.take(directory.relative_to(layer), directory, [*below, *files], hides_base(directory))
    if Path() in found.replaced:
        return None
    replaced = [path for path in found.replaced if _is_directory(merged / path)]
    replaced = [path for path in replaced if not found.replaced & set(path.parents)]
    names = {path for path in found.changed if os.path.lexists(merged / path)}
    for path in replaced:
        for directory, below, files in _walk(merged / path):
            names |= {directory.relative_to(merged) / name for name in ("", *below, *files)}
    return Changes(tuple(sorted(map(str, names))), tuple(sorted(map(str, replaced))))


@dataclass(slots=True)
class _Found:
    """What was seen so far in layers over a base."""

    base: Path
    changed: set[Path] = field(default_factory=lambda: {Path()})
    replaced: set[Path] = field(default_factory=set)

    def take(self, path: Path, directory: Path, names: Sequence[str], is_opaque: bool) -> None:
        """Take a directory of a layer."""
        if is_opaque:
            self.replaced.add(path)
        for name in names:
            below, status = self.base / path / name, (directory / name).lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                if os.path.lexists(below):
                    self.replaced.add(path)
                continue
            self.changed.add(path / name)
            if os.path.lexists(below) and stat.S_IFMT(below.lstat().st_mode) != stat.S_IFMT(status.st_mode):
                self.replaced.add(path)


def _walk(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Visit a directory and those in it; links are not followed."""
    for directory, below, files in os.walk(top):
        yield Path(directory), below, files


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
