"""The guest kernel: found, its modules ordered, the initramfs written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emberbox.host import architecture, kernel
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


def unpack(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Take a `newc` archive apart: name, mode and content, each padded to four bytes."""
    found, place = [], 0
    while True:
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[place + 110 : place + 110 + name_size - 1].decode()
        place = -(-(place + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, archive[place : place + size]))
        place = -(-(place + size) // 4) * 4


def test_the_archive_keeps_to_the_format() -> None:
    archive = _Cpio()
    archive.add_directory("sub")
    archive.add_file("init", b"#!program\n", 0o755)
    archive.add_file("sub/odd", b"123", 0o600)
    archive.add_file("sub/even", b"", 0o644)
    assert unpack(archive.finish()) == [
        ("sub", 0o040755, b""),
        ("init", 0o100755, b"#!program\n"),
        ("sub/odd", 0o100600, b"123"),
        ("sub/even", 0o100644, b""),
    ]


@pytest.fixture
def unpacked(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel directory as the package leaves it, and an agent."""
    (tmp_path / "boot").mkdir()
    (tmp_path / f"boot/vmlinuz-{RELEASE}").write_bytes(b"kernel")
    for name in MODULES:
        add_module(modules, name)
    agent = tmp_path / "agent"
    agent.write_bytes(b"the agent")
    monkeypatch.setattr(kernel, "agent_path", lambda _architecture: agent)
    monkeypatch.setattr(architecture.platform, "machine", lambda: "x86_64")
    return tmp_path


async def test_the_initramfs_holds_the_agent_and_the_modules_in_order(unpacked: Path) -> None:
    made = await ensure_kernel(unpacked)
    names = [name for name, _, _ in unpack(made.initramfs.read_bytes())]
    modules = [name for name in names if name.startswith("modules/")]
    assert modules == [f"modules/{number:02}-{name}.ko" for number, name in enumerate(MODULES)]
    assert ("init", 0o100755, b"the agent") in unpack(made.initramfs.read_bytes())
    assert ("modprobe", 0o120777, b"init") in unpack(made.initramfs.read_bytes())
    assert made.directory == unpacked
    assert {"dev", "proc", "sys"} <= set(names)


async def test_the_initramfs_is_made_again_only_when_the_agent_is_newer(unpacked: Path) -> None:
    made = await ensure_kernel(unpacked)
    first = made.initramfs.stat().st_ino
    assert (await ensure_kernel(unpacked)).initramfs.stat().st_ino == first
    (unpacked / "agent").write_bytes(b"a newer agent")
    later = made.initramfs.stat().st_mtime + 10
    os.utime(unpacked / "agent", (later, later))
    assert b"a newer agent" in (await ensure_kernel(unpacked)).initramfs.read_bytes()


async def test_another_processor_is_refused_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture.platform, "machine", lambda: "riscv64")
    with pytest.raises(HostError, match="x86_64 and aarch64 only so far; this machine is riscv64"):
        await ensure_kernel(tmp_path)
