"""The guest kernel: found, its modules ordered, the initramfs written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emberbox.host import kernel
from emberbox.host.kernel import MODULES, _Cpio, ensure_kernel, find_kernel, ordered_modules
from emberbox.model.errors import HostError

RELEASE = "6.1.0-1-cloud-amd64"


def add_module(modules: Path, name: str, *needs: str) -> None:
    path = modules / f"kernel/drivers/{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF junk\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    modules = tmp_path / "lib/modules" / RELEASE
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\nkernel/fs/overlayfs/over_lay.ko\n")
    return modules


def test_modules_come_after_what_they_need(modules: Path) -> None:
    add_module(modules, "virtio_net", "net_failover", "virtio_ring")
    add_module(modules, "net_failover", "failover")
    add_module(modules, "failover")
    add_module(modules, "virtio_ring")
    found = [path.stem for path in ordered_modules(modules, ("virtio_net", "failover"))]
    assert found == ["failover", "net_failover", "virtio_ring", "virtio_net"]


def test_built_in_modules_need_no_file(modules: Path) -> None:
    assert ordered_modules(modules, ("fuse", "over-lay")) == []


def test_dash_and_underscore_are_the_same(modules: Path) -> None:
    add_module(modules, "virtio-rng")
    assert [path.stem for path in ordered_modules(modules, ("virtio_rng",))] == ["virtio-rng"]


def test_a_missing_module_is_named(modules: Path) -> None:
    add_module(modules, "erofs", "libcrc32c")
    with pytest.raises(HostError, match="no module libcrc32c"):
        ordered_modules(modules, ("erofs",))


def test_the_newest_kernel_is_taken(tmp_path: Path) -> None:
    assert find_kernel(tmp_path) is None
    (tmp_path / "boot").mkdir()
    for number, release in enumerate(("6.1.0-9", "6.1.0-10")):
        image = tmp_path / f"boot/vmlinuz-{release}"
        image.touch()
        os.utime(image, (number, number))
    found = find_kernel(tmp_path)
    assert found is not None
    assert (found.release, found.initramfs.name) == ("6.1.0-10", "initramfs-6.1.0-10.cpio")


def test_the_archive_is_one_that_cpio_unpacks(tmp_path: Path) -> None:
    archive = _Cpio()
    archive.add_directory("sub")
    archive.add_file("init", b"#!program\n", 0o755)
    archive.add_file("sub/odd", b"123", 0o600)
    archive.add_file("sub/even", b"", 0o644)
    done = subprocess.run(
        ["cpio", "--extract", "--quiet"], input=archive.finish(), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "init").read_bytes() == b"#!program\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "sub/odd").read_bytes() == b"123"
    assert (tmp_path / "sub/even").read_bytes() == b""


@pytest.fixture
def unpacked(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel directory as the package leaves it, and an agent."""
    (tmp_path / "boot").mkdir()
    (tmp_path / f"boot/vmlinuz-{RELEASE}").write_bytes(b"kernel")
    for name in MODULES:
        add_module(modules, name)
    agent = tmp_path / "agent"
    agent.write_bytes(b"the agent")
    monkeypatch.setattr(kernel, "agent_path", lambda: agent)
    monkeypatch.setattr(kernel.platform, "machine", lambda: "x86_64")
    return tmp_path


async def test_the_initramfs_holds_the_agent_and_the_modules_in_order(unpacked: Path) -> None:
    made = await ensure_kernel(unpacked)
    content = made.initramfs.read_bytes()
    places = [content.index(name.encode()) for name in ("init\0", "00-virtio_mmio.ko", "01-virtio_console.ko")]
    assert places == sorted(places)
    assert b"the agent" in content
    assert content.endswith(b"TRAILER!!!\0") or b"TRAILER!!!" in content[-40:]


async def test_the_initramfs_is_made_again_only_when_the_agent_is_newer(unpacked: Path) -> None:
    made = await ensure_kernel(unpacked)
    first = made.initramfs.stat().st_ino
    assert (await ensure_kernel(unpacked)).initramfs.stat().st_ino == first
    (unpacked / "agent").write_bytes(b"a newer agent")
    later = made.initramfs.stat().st_mtime + 10
    os.utime(unpacked / "agent", (later, later))
    assert b"a newer agent" in (await ensure_kernel(unpacked)).initramfs.read_bytes()


async def test_another_processor_is_refused_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "riscv64")
    with pytest.raises(HostError, match="x86_64 only so far; this machine is riscv64"):
        await ensure_kernel(tmp_path)
