"""What the driver does when QEMU does not do its part; a stand-in that says nothing takes QEMU's place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from emberbox.model.errors import VmmError
from emberbox.vmm.base import Cage, MachineShape, RestorePlan, UserNetwork, VmFiles
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu import QemuDriver, arguments
from support import host


@pytest.fixture
def plan(tmp_path: Path) -> RestorePlan:
    for name in ("root", "disk", "memory", "devices.saved"):
        (tmp_path / name).write_bytes(b"")
    files = VmFiles(tmp_path, tmp_path / "root", tmp_path / "disk", tmp_path / "devices")
    return RestorePlan(
        MachineShape(1, 64), files, Cage(None, None), UserNetwork(()), tmp_path / "devices.saved", tmp_path / "memory"
    )


def stand_in(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> QemuDriver:
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(arguments, "BINARY", str(path))
    return QemuDriver(Engine("QEMU", "7.2.22", "tcg"), Path("/nonexistent.so"), None)


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
    with pytest.raises(VmmError, match="QEMU did not start: the reason"):
        await driver.restore(plan)
