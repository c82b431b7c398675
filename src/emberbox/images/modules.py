"""The kernel modules that an image gets whose application has all capabilities: its `/lib/modules/<release>`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emberbox.images.randomness import AddedFile, resolve

_LIST = "modules.dep"


def find_modules(root: Path, directory: Path, release: str) -> Iterator[AddedFile]:
    """Yield what an image gets: nothing where it has modules of that release already, by a package of its own.

    Args:
        root: the image's files. Links in it are followed as the guest would, never out of it.
        directory: what `kernel_modules.ensure_modules` made.
        release: the kernel's.
    """
    place = resolve(root, f"/lib/modules/{release}")
    if place is None or _is_there(root / place[1:] / _LIST):
        return
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            yield AddedFile(f"{place}/{file.relative_to(directory)}", file.read_bytes())


def _is_there(path: Path) -> bool:
    """Say whether a file is there; another user than root may not see it, and then adds nothing."""
    try:
        return path.exists()
    except PermissionError:
        return True
