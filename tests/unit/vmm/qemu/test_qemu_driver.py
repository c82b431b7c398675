"""What the driver does when QEMU does not do its part; a stand-in that says nothing takes QEMU's place."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from emberbox import process
from emberbox.host import native
from emberbox.model.errors import VmmError
from emberbox.vmm.base import Cage, MachineShape, RestorePlan, UserNetwork, VmFiles
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged.files import make_base
from emberbox.vmm.qemu import QemuDriver, arguments, spawn
from emberbox.vmm.qemu.vm import QemuVm, log_size
from support import host

ENGINE = Engine("QEMU", "7.2.22", "tcg")


@pytest.fixture
def plan(tmp_path: Path) -> RestorePlan:
    for name in ("root", "disk", "memory", "devices"):
        (tmp_path / name).write_bytes(b"")
    files, base = VmFiles(tmp_path, tmp_path / "root"), make_base(tmp_path, (), ENGINE)
    return RestorePlan(MachineShape(1, 64), files, Cage(None, None), UserNetwork(), base, None, 0.0)


def stand_in(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> QemuDriver:
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(arguments, "BINARY", str(path))
    return QemuDriver(ENGINE, native.memory_shim_path(), 1)


async def test_a_start_that_is_cancelled_is_cancelled_and_leaves_no_process(
    plan: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = stand_in(monkeypatch, tmp_path, f"touch {tmp_path}/started; exec sleep 600")
    start = asyncio.create_task(driver.restore(plan))
    async with asyncio.timeout(20):
        while not (tmp_path / "started").exists():  # noqa: ASYNC110 - a shell makes it
            await asyncio.sleep(0.01)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not host.processes_of(tmp_path)


async def test_what_qemu_said_last_is_told(plan: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = stand_in(monkeypatch, tmp_path, "echo first >&2; echo the reason >&2; exit 1")
    with pytest.raises(VmmError, match="QEMU did not start: it exited with code 1: the reason"):
        await driver.restore(plan)


async def test_what_an_earlier_qemu_said_is_not_told(
    plan: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmm.log").write_text("Expected vmdescription section, but got 0\n")
    driver = stand_in(monkeypatch, tmp_path, "exit 1")
    with pytest.raises(VmmError, match="QEMU did not start: it exited with code 1: it printed nothing"):
        await driver.restore(plan)


async def test_what_qemu_said_while_it_started_is_not_why_it_ends_later(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(b"")
    files = VmFiles(tmp_path, memory)
    (tmp_path / "vmm.log").write_text("Expected vmdescription section, but got 0\n")
    child = await process.start(["sleep", "600"])
    vm = QemuVm(child, Mock(), ENGINE, files, None, tmp_path / "vmm.log", log_size(tmp_path / "vmm.log"))
    child.kill()
    assert await vm.wait_exited() == "QEMU was killed by SIGKILL: it printed nothing"
    await child.kill_group()


@pytest.mark.parametrize(("saved", "has", "told"), [(b"\x08kvmclock", "tcg", "kvm"), (b"\x05timer", "kvm", "tcg")])
async def test_devices_of_the_other_accelerator_are_refused_before_qemu_starts(
    plan: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bytes, has: str, told: str
) -> None:
    stand_in(monkeypatch, tmp_path, f"touch {tmp_path}/started")
    monkeypatch.setattr(spawn, "KVM", Path("/dev/null"))
    plan.base.path("devices").write_bytes(b"QEVM\0\0\0\x03\x04\0\0\0\x01" + saved)
    driver = QemuDriver(replace(ENGINE, accelerator=has), Path("/nonexistent.so"), 1)
    with pytest.raises(VmmError, match=f"EMBERBOX_ACCELERATOR={told}"):
        await driver.restore(plan)
    assert not (tmp_path / "started").exists()


async def test_qemu_gets_kvm_as_an_open_descriptor(
    plan: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, 'readlink /proc/self/fd/$EMBERBOX_KVM_FD >&2; echo "$LD_PRELOAD" >&2; exit 1')
    (tmp_path / "kvm").write_bytes(b"")
    monkeypatch.setattr(spawn, "KVM", tmp_path / "kvm")
    driver = QemuDriver(replace(ENGINE, accelerator="kvm"), native.memory_shim_path(), 1)
    with pytest.raises(VmmError, match=r"memory_shim\.so"):
        await driver.restore(plan)
    assert f"{tmp_path}/kvm\n" in (tmp_path / "vmm.log").read_text()


def open_by_shim(path: Path, *, handed: bool, uid: int) -> str:
    """Open /dev/kvm in a process that the shim is loaded into, and return what it got, or its error."""
    script = """import os
try:
    print(os.readlink(f"/proc/self/fd/{os.open('/dev/kvm', os.O_RDWR)}"))
except OSError as error:
    print(error.strerror)"""
    with path.open("r+b") as device:
        environment = {"LD_PRELOAD": str(native.memory_shim_path()), "PATH": os.defpath}
        if handed:
            environment["EMBERBOX_KVM_FD"] = str(device.fileno())
        drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*drop, "/usr/bin/python3", "-c", script]
        done = subprocess.run(command, env=environment, pass_fds=(device.fileno(),), capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def test_the_shim_gives_a_copy_of_kvm_to_a_user_who_may_not_open_it(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"")
    device.chmod(0o600)
    assert open_by_shim(device, handed=True, uid=65534) == str(device)
    assert open_by_shim(device, handed=False, uid=65534) != str(device)
