"""What an image's own layers change of the base below them, so that only this has to be packed.

Layers are as overlay has them (kernel documentation, "Overlay Filesystem"): a character device 0:0 takes a name away,
an extended attribute says that a directory shows nothing of the layers below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OPAQUE_MARK = ".wh..wh..opq"
"""A file that stands for that attribute in archives of layers (OCI image layer specification, "Opaque Whiteout")."""

_OPAQUE = "trusted.overlay.opaque"
_WHITEOUT = 0
"""The kind of a name that a layer takes away, in place of a kind of file."""


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
    found, all_layers = _Found(_Tree(base)), _Tree(merged)
    for layer in layers:
        tree = _Tree(layer)
        for directory in tree.walk():
            found.take(directory, tree.names(directory), hides_base(layer / directory))
    if "" in found.replaced:
        return None
    replaced = [path for path in found.replaced if all_layers.kind(path) == stat.S_IFDIR]
    replaced = [path for path in replaced if found.replaced.isdisjoint(_parents(path))]
    names = {path for path in found.changed if all_layers.kind(path)}
    for path in replaced:
        for directory in all_layers.walk(path):
            names |= {directory, *(_join(directory, name) for name in all_layers.names(directory))}
    return Changes((".", *sorted(names)), tuple(sorted(replaced)))


class _Tree:
    """What is in a directory, and in those in it: each is read once, when it is first asked about.

    A question to the kernel for each name would be dear in a sandbox. Links are not followed; paths are below the top.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._known = {"": _read_directory(top)}

    def names(self, directory: str) -> Mapping[str, int]:
        """Return the names in a directory, each with its kind (`stat.S_IFMT`); none in what is no directory."""
        if directory not in self._known:
            is_there = self.kind(directory) == stat.S_IFDIR
            self._known[directory] = _read_directory(self._top / directory) if is_there else {}
        return self._known[directory]

    def kind(self, path: str) -> int | None:
        """Return what kind of file a path other than the top is, None if there is none."""
        parent, _, name = path.rpartition("/")
        return self.names(parent).get(name)

    def walk(self, directory: str = "") -> Iterator[str]:
        """Visit a directory and those in it, each before what is in it."""
        left = [directory]
        while left:
            here = left.pop()
            yield here
            left += [_join(here, name) for name, kind in self.names(here).items() if kind == stat.S_IFDIR]


def _read_directory(path: Path) -> dict[str, int]:
    with os.scandir(path) as entries:
        return {entry.name: _kind(entry) for entry in entries}


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir():
        return stat.S_IFDIR
    if entry.is_file():
        return stat.S_IFREG
    status = entry.stat(follow_symlinks=False)
    is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    return _WHITEOUT if is_whiteout else stat.S_IFMT(status.st_mode)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


@dataclass(slots=True)
class _Found:
    """What was seen so far in layers over a base."""

    base: _Tree
    changed: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)

    def take(self, path: str, names: Mapping[str, int], is_opaque: bool) -> None:
        """Take a directory of a layer."""
        if is_opaque:
            self.replaced.add(path)
        below = self.base.names(path)
        for name, kind in names.items():
            if kind != _WHITEOUT:
                self.changed.add(_join(path, name))
            if below.get(name, kind) != kind:
                self.replaced.add(path)
