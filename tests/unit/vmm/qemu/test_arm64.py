"""QEMU for AArch64 on an x86 machine: where it comes from, and what it is told."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from emberbox.host import architecture, native
from emberbox.host.architecture import ARM_64
from emberbox.model.errors import HostError
from emberbox.vmm.base import Cage, MachineShape
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu import QemuDriver, arguments, arm64
from emberbox.vmm.qemu.arguments import Descriptors
from emberbox.vmm.qemu.arm64 import describe, ensure_program, find_program, make_driver
from emberbox.vmm.request import EngineRequest

CAGE = Cage(None, None)
FDS = Descriptors(root=3, disk=4, memory=5, qmp=6, agent=7, kernel=8, initramfs=9, program=10)
SHAPE = MachineShape(16, 8192)


def request(home: Path, *, emulates: bool = True) -> EngineRequest:
    return EngineRequest(home, "", "auto", CAGE, {}, emulates_arm64=emulates)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """QEMU as a package leaves it under a home, on a machine that has none of its own."""
    monkeypatch.setattr(arm64.shutil, "which", lambda _name: None)
    program = tmp_path / "packages/qemu-system-arm/usr/bin/qemu-system-aarch64"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho QEMU emulator version 7.2.22\n")
    program.chmod(0o755)
    return program


async def test_it_is_not_made_unless_the_operator_allows_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="EMBERBOX_ARM64=emulate"):
        await make_driver(request(tmp_path, emulates=False))


async def test_an_arm_machine_needs_no_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture.platform, "machine", lambda: "aarch64")
    with pytest.raises(HostError, match="runs it itself"):
        await make_driver(request(tmp_path))


async def test_it_is_an_engine_of_its_own_name(fetched: Path, tmp_path: Path) -> None:
    driver = await make_driver(request(tmp_path))
    assert driver.engine == Engine("QEMU-ARM64", "7.2.22", "tcg")
    assert driver.engine.name == "qemu-arm64"
    assert driver.capabilities.moves_clock
    assert driver.engine.obstacle(Engine("QEMU", "7.2.22", "tcg")) is not None


async def test_the_machines_own_comes_first(fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_program(tmp_path) == fetched
    monkeypatch.setattr(arm64.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert find_program(tmp_path) == Path("/usr/bin/qemu-system-aarch64")


async def test_it_is_fetched_of_the_machines_own_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Sequence[str]]] = []

    async def fetch(directory: Path, suite: str, packages: Sequence[str]) -> Path:
        asked.append((suite, packages))
        return directory

    monkeypatch.setattr(arm64.shutil, "which", lambda _name: None)
    monkeypatch.setattr(arm64, "ensure_packages", fetch)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "trixie"})
    assert (await ensure_program(tmp_path)).name == "qemu-system-aarch64"
    assert asked == [("trixie", ["qemu-system-arm"])]
    monkeypatch.setattr(platform, "freedesktop_os_release", dict)
    with pytest.raises(HostError, match=r"release is unknown; install it: apt-get install.*qemu-system-arm"):
        await ensure_program(tmp_path)


async def test_what_it_means_is_told(fetched: Path, tmp_path: Path) -> None:
    assert "no security boundary; QEMU 7.2.22" in await describe(tmp_path)
    fetched.unlink()
    assert "is fetched with the first image" in await describe(tmp_path)


def test_the_command_line_is_of_its_row() -> None:
    command = [
        *arguments.accelerator_args("tcg", boots=True, guest=ARM_64),
        *arguments.machine_args(SHAPE, FDS.memory, shared=True, guest=ARM_64),
        *arguments.boot_args(FDS, None, ARM_64),
        *arguments.name_args(FDS, ARM_64),
    ]
    assert "neoverse-n1" in command
    assert "virt,gic-version=3,memory-backend=memory,suppress-vmdesc=on" in command
    assert "-bios" not in command
    assert command[command.index("-append") + 1].startswith("console=ttyAMA0 quiet")
    assert command[-2:] == ["-name", "process=qemu-system-aarch64"]
    assert arguments.name_args(Descriptors(3, 4, 5, 6, 7), ARM_64) == []


def test_on_kvm_the_interrupt_controller_is_the_machines() -> None:
    command = arguments.machine_args(SHAPE, 5, shared=True, guest=ARM_64, accelerator="kvm")
    assert any("gic-version=host" in word for word in command)


def test_on_kvm_no_clock_is_moved() -> None:
    shim = native.memory_shim_path()
    assert not QemuDriver(Engine("QEMU", "10.0.0", "kvm"), shim, 0, ARM_64).capabilities.moves_clock
    assert QemuDriver(Engine("QEMU", "10.0.0", "kvm"), shim, 1).capabilities.moves_clock
