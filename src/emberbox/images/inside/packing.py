"""From an image's layers to one root file system, in the sandbox."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from emberbox.images.config import RootFileSystem, find_user
from emberbox.images.inside.daemon import STORE
from emberbox.images.randomness import AddedFile, find_additions


def make_root(
    layers: Sequence[Path], destination: Path, user: str, environment: Mapping[str, str], library: bytes
) -> RootFileSystem:
    """Pack layers, and what randomness.py adds to them, into a root file system.

    Args:
        layers: the uppermost first.
        destination: the root file system's file, which is there.
        user: whom it runs as, as `USER` says it.
        environment: the variables that its processes get.
        library: the provider of random numbers.

    Raises:
        BuildError: the user does not exist.
        CalledProcessError: the disk is full.
    """
    with _merged(layers) as root:
        found = find_user(root, user)
        added = find_additions(root, environment.get("OPENSSL_CONF"), library)
        for file in added.files:
            _add(root, file)
        subprocess.run(["mkfs.erofs", "--quiet", destination, root], check=True)
    with destination.open("rb") as packed:
        os.fsync(packed.fileno())
    return RootFileSystem(found, added.environment, added.notes)


def _add(root: Path, file: AddedFile) -> None:
    path = root / file.path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(file.content)
    os.chown(path, file.uid, file.gid)
    path.chmod(file.mode)


@contextmanager
def _merged(layers: Sequence[Path]) -> Iterator[Path]:
    """Mount layers as one directory that can be written, which changes none of them."""
    work = STORE / "merged"
    for name in ("names", "upper", "work", "root"):
        (work / name).mkdir(parents=True)
    for number, layer in enumerate(layers):  # the options of a mount have room for short names only
        (work / "names" / str(number)).symlink_to(layer)
    lower = ":".join(f"{work}/names/{number}" for number in range(len(layers))) or str(work / "names")
    options = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, work / "root"], check=True)
    try:
        yield work / "root"
    finally:
        subprocess.run(["umount", work / "root"], check=True)
        subprocess.run(["rm", "-rf", work], check=True)
