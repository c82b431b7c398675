"""From an image's layers to one root file system, in the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emberbox.images.authorities import with_authorities
from emberbox.images.config import RootFileSystem, find_user
from emberbox.images.inside.changes import OPAQUE_MARK, find_changes
from emberbox.images.inside.daemon import LARGE_READS, STORE
from emberbox.images.modules import find_modules
from emberbox.images.randomness import AddedFile, find_additions, find_openssl

_WORK = STORE / "packing"
_TAR = (*LARGE_READS, "--numeric-owner", "--format=pax", "--xattrs", "--xattrs-include=*")
_EROFS = ("mkfs.erofs", "--quiet", "--tar=f")
"""By way of an archive: to read and write each file by itself takes calls to the kernel, dear ones in a sandbox."""

_PLAIN = ("-Enoinline_data", "-x-1")
"""For guests without a kernel of their own; see `disk.make_root`."""


@dataclass(frozen=True, slots=True)
class Form:
    """What root file systems are made for.

    Args:
        name: of the form.
        options: of mkfs.erofs.
    """

    name: str
    options: tuple[str, ...] = ()


OWN_KERNEL, PLAIN = Form("own-kernel"), Form("plain", _PLAIN)
FORMS = (OWN_KERNEL, PLAIN)


@dataclass(frozen=True, slots=True)
class Base:
    """The base image: its layer as builds have it in their store, and what is known of it ahead.

    Args:
        layer: its files.
        images: the directory that has the same, packed in each form.
        openssl: a file with what `randomness.find_openssl` finds in it.
    """

    layer: Path
    images: Path
    openssl: Path

    def image(self, form: Form) -> Path:
        """Return it packed."""
        return self.images / f"base-{form.name}.erofs"


def pack_base(base: Base) -> None:
    """Make the files of a base from its layer.

    Raises:
        CalledProcessError: a tool failed; the disk may be full.
    """
    base.openssl.write_text(json.dumps(sorted(find_openssl(base.layer))))
    _WORK.mkdir()
    for form in FORMS:
        _pack_all(base.layer, base.image(form), form)
    shutil.rmtree(_WORK)


def make_root(
    layers: Sequence[Path], base: Base, destination: Path, user: str, environment: Mapping[str, str], library: bytes,
    agent: AddedFile | None = None, authorities: str = "", modules: tuple[Path, str] | None = None,
) -> RootFileSystem:  # fmt: skip
    """Pack layers, and what randomness.py and authorities.py add to them, into a root file system.

    Args:
        layers: the uppermost first.
        base: what is packed already, if the lowest layer is that one.
        destination: the root file system's file, which is there.
        user: whom it runs as, as `USER` says it.
        environment: the variables that its processes get.
        library: the provider of random numbers.
        agent: what guests without a kernel of their own begin with; None: guests have one.
        authorities: what its processes trust (PEM); empty: nothing in particular.
        modules: the kernel's that guests may load, and its release; None: they load none.

    Raises:
        BuildError: the user does not exist.
        CalledProcessError: a tool failed; the disk may be full.
    """
    form = OWN_KERNEL if agent is None else PLAIN
    with _merged(layers) as root:
        found = find_user(root, user)
        own = layers[:-1] if layers and layers[-1].resolve() == base.layer.resolve() else None
        found_out = find_additions(root, environment.get("OPENSSL_CONF"), library, _find_openssl(own, base))
        added = with_authorities(found_out, authorities)
        for file in (*added.files, *([] if agent is None else [agent])):
            _add(root, file)
        for file in find_modules(root, *modules) if modules is not None else ():
            _add(root, file)
        if own is None or not _pack_changes([_WORK / "upper", *own], base, root, destination, form):
            _pack_all(root, destination, form)
    return RootFileSystem(found, added.environment, added.notes)


def _find_openssl(layers: Sequence[Path] | None, base: Base) -> set[str] | None:
    """Look into an image's own layers only, where the base below them is known."""
    if layers is None:
        return None
    return set(json.loads(base.openssl.read_text())).union(*map(find_openssl, layers))


def _pack_all(root: Path, packed: Path, form: Form) -> None:
    archive = _WORK / "root.tar"
    subprocess.run([*_TAR, "-C", root, "-cf", archive, "."], check=True)
    _run_erofs(packed, archive, *form.options)


def _pack_changes(layers: Sequence[Path], base: Base, root: Path, packed: Path, form: Form) -> bool:
    """Add what layers change to a copy of the packed base; say whether that can be done."""
    changes = find_changes(layers, base.layer, root)
    if changes is None:
        return False
    marks = [f"{directory}/{OPAQUE_MARK}" for directory in changes.replaced]
    for mark in marks:
        (root / mark).touch()
    archive, names = _WORK / "changes.tar", _WORK / "changes"
    listed = sorted([*changes.names, *marks], key=lambda name: name.split("/"))
    names.write_bytes(b"".join(os.fsencode(f"./{name}") + b"\0" for name in listed))
    subprocess.run([*_TAR, "-C", root, "--no-recursion", "--null", "-T", names, "-cf", archive], check=True)
    subprocess.run(["cp", base.image(form), packed], check=True)
    _run_erofs(packed, archive, *form.options, "--aufs", "--ovlfs-strip=1", "--incremental=data")
    return True


def _run_erofs(packed: Path, archive: Path, *options: str) -> None:
    environment = {**os.environ, "TMPDIR": str(_WORK)}
    subprocess.run([*_EROFS, *options, packed, archive], env=environment, check=True)
    with packed.open("rb") as file:
        os.fsync(file.fileno())


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
    for name in ("names", "nothing", "upper", "work", "root"):
        (_WORK / name).mkdir(parents=True)
    for number, layer in enumerate(layers):  # the options of a mount have room for short names only
        (_WORK / "names" / str(number)).symlink_to(layer)
    lower = ":".join(f"{_WORK}/names/{number}" for number in range(len(layers))) or str(_WORK / "nothing")
    options = f"lowerdir={lower},upperdir={_WORK / 'upper'},workdir={_WORK / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, _WORK / "root"], check=True)
    try:
        yield _WORK / "root"
    finally:
        subprocess.run(["umount", _WORK / "root"], check=True)
        subprocess.run(["rm", "-rf", _WORK], check=True)
