"""The guest kernel: Debian's cloud kernel, unpacked from its package and never installed on the host.

Installing the package would put the kernel into the host's own boot menu.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emberbox import process
from emberbox.host.architecture import Architecture, native
from emberbox.host.debian_packages import download, extract, find_archive, open_suite
from emberbox.host.native import agent_path
from emberbox.model.errors import HostError

FOREIGN_SUITE = "bookworm"
"""Where the kernel of another architecture comes from, whose packages the machine's own apt does not know."""

MODULES = (
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "veth",
    "virtio-rng",
    "virtio_balloon",
    "erofs",
    "overlay",
    "fuse",
    "tcp_diag",
)
"""What a guest needs besides what the kernel has built in; `virtio_mmio` first, the rest by dependency."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A guest kernel and its initramfs."""

    release: str
    image: Path
    initramfs: Path

    @property
    def directory(self) -> Path:
        """Where it was unpacked."""
        return self.initramfs.parent


async def ensure_kernel(directory: Path, architecture: Architecture | None = None) -> Kernel:
    """Return the kernel under `directory`; fetch and prepare it when it is not there.

    Args:
        directory: of kernels for one architecture.
        architecture: which one; None is this machine's.

    Raises:
        HostError: it is missing and cannot be fetched.
    """
    wanted = architecture or native()
    kernel = find_kernel(directory) or await _fetch(directory, wanted)
    _write_initramfs(kernel, directory, agent_path(wanted))
    return kernel


def find_kernel(directory: Path) -> Kernel | None:
    """Return the newest kernel that was unpacked under `directory`."""
    images = sorted((directory / "boot").glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    if not images:
        return None
    release = images[-1].name.removeprefix("vmlinuz-")
    return Kernel(release, images[-1], directory / f"initramfs-{release}.cpio")


async def _fetch(directory: Path, architecture: Architecture) -> Kernel:
    work = directory / "scratch"
    shutil.rmtree(work, ignore_errors=True)  # of a server that was killed
    work.mkdir(parents=True)
    try:
        options = await _open_sources(work, architecture)
        package = await _resolve_package(architecture.kernel, options)
        await download(work, [package], options)
        await extract(next(work.glob("*.deb")), work / "unpacked")
        await process.run(["sync", "--file-system", work], timeout=600)
        (work / "unpacked/lib").replace(directory / "lib")
        (work / "unpacked/boot").replace(directory / "boot")  # last: its presence means complete
    finally:
        shutil.rmtree(work, ignore_errors=True)
    kernel = find_kernel(directory)
    if kernel is None:
        raise HostError(f"the package {package} holds no kernel")
    return kernel


async def _open_sources(work: Path, architecture: Architecture) -> tuple[str, ...]:
    """Return apt's options for an architecture's packages: none where the machine's own sources have them."""
    if architecture == native():
        return ()
    return await open_suite(work, FOREIGN_SUITE, await find_archive(), architecture.debian)


async def _resolve_package(meta_package: str, options: Sequence[str]) -> str:
    """Return the package that the meta package stands for today."""
    shown = await process.run(["apt-cache", *options, "depends", meta_package], check=False)
    for line in shown.stdout.splitlines():
        name = line.strip().removeprefix("Depends: ")
        if name.startswith("linux-image-") and name != meta_package:
            return name
    raise HostError(
        f"Debian's package {meta_package} is not known here; run `apt-get update`, "
        "or unpack a Debian cloud kernel into EMBERBOX_HOME/kernel (boot/ and lib/modules/)"
    )


def _write_initramfs(kernel: Kernel, directory: Path, agent: Path) -> None:
    newest = max(agent.stat().st_mtime, kernel.image.stat().st_mtime, Path(__file__).stat().st_mtime)
    if kernel.initramfs.exists() and kernel.initramfs.stat().st_mtime >= newest:
        return
    modules = directory / "lib/modules" / kernel.release
    archive = _Cpio()
    for name in ("dev", "proc", "sys", "modules", "image", "disk", "container", "cgroup"):
        archive.add_directory(name)
    archive.add_file("init", agent.read_bytes(), 0o755)
    archive.add_link("modprobe", "init")  # by which name it answers the kernel: agent/modprobe.c
    for number, module in enumerate(ordered_modules(modules, MODULES)):
        archive.add_file(f"modules/{number:02}-{module.name}", module.read_bytes(), 0o644)
    scratch = kernel.initramfs.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(archive.finish())
    scratch.replace(kernel.initramfs)


def ordered_modules(modules: Path, wanted: tuple[str, ...]) -> list[Path]:
    """Return the files of the wanted modules and all they need, each after what it needs.

    Raises:
        HostError: a module is neither a file there nor built into the kernel.
    """
    files = {path.stem: path for path in modules.rglob("*.ko")}
    built_in = {Path(line).stem for line in (modules / "modules.builtin").read_text().split()}
    ordered: list[Path] = []

    def visit(name: str) -> None:
        path = files.get(name) or files.get(name.replace("-", "_")) or files.get(name.replace("_", "-"))
        if path is None:
            if name in built_in or name.replace("-", "_") in built_in:
                return
            raise HostError(f"the guest kernel has no module {name}")
        if path in ordered:
            return
        for needed in _needs(path):
            visit(needed)
        ordered.append(path)

    for name in wanted:
        visit(name)
    return ordered


def _needs(module: Path) -> list[str]:
    """Read the `depends=` entry of a module's .modinfo section: zero-terminated strings in the file."""
    content = module.read_bytes()
    start = content.find(b"\0depends=")
    if start < 0:
        return []
    text = content[start + 1 : content.index(b"\0", start + 1)].decode().removeprefix("depends=")
    return [name for name in text.split(",") if name]


class _Cpio:
    """Writes a cpio archive in the `newc` form (kernel documentation, "initramfs buffer format")."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def add_directory(self, name: str) -> None:
        self._add(name, 0o040755, b"")

    def add_file(self, name: str, content: bytes, mode: int) -> None:
        self._add(name, 0o100000 | mode, content)

    def add_link(self, name: str, target: str) -> None:
        self._add(name, 0o120777, target.encode())

    def finish(self) -> bytes:
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, content: bytes) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in fields) + encoded
        self._parts += [header, bytes(-len(header) % 4), content, bytes(-len(content) % 4)]
