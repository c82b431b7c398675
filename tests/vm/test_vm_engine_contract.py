"""The engines' contract, over QEMU: the same tests that tests/unit/vmm runs over an engine without VMs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from emberbox.guest.protocol import Application
from emberbox.host import disk, native
from emberbox.host.kernel import Kernel, find_kernel
from emberbox.images.pipeline import DEFAULT_CAPABILITIES
from emberbox.machine.connections import GUEST_RESOLV_CONF
from emberbox.machine.snapshot import load_image_snapshot
from emberbox.machine.survivors import find_survivor
from emberbox.model.sizes import SIZES
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.base import DISK, KernelBoot, MachineShape, Saved, Vm
from emberbox.vmm.qemu import QemuDriver
from emberbox.vmm.qemu.vm import QemuVm
from support.engine_contract import Bench, EngineContract, boot_base
from support.images import Image
from support.server import Server

pytestmark = pytest.mark.vm

SIZE = SIZES[512]
SHAPE = MachineShape(SIZE.vcpu_count, SIZE.mem_size_mib)
APPLICATION = Application(
    ("perl", "/probe.pl"), (("PATH", os.defpath),), "/", 0, 0, (), DEFAULT_CAPABILITIES,
    privileged=False, hostname="contract", resolv_conf=GUEST_RESOLV_CONF,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(server: Server, probe_image: Image) -> Iterator[Bench]:
    """A bench whose base was booted here: with the engine's own network, whatever the server's microVMs have."""
    (root,) = server.home.glob(f"images/{_image_id(server, probe_image)}/1.0/root.erofs")
    with tempfile.TemporaryDirectory(dir=server.home / "runtime") as scratch:
        yield asyncio.run(_make(root, server.home, Path(scratch)))


class TestQemu(EngineContract):
    @pytest.fixture
    async def bench(self, made: Bench) -> AsyncIterator[Bench]:
        yield made
        await made.close()


def _image_id(server: Server, image: Image) -> str:
    with contextlib.closing(sqlite3.connect(server.home / "emberbox.db")) as rows:
        (found,) = rows.execute("select id from images where arn = ?", (image.arn,)).fetchone()
    return str(found)


async def _make(root: Path, home: Path, scratch: Path) -> Bench:
    engine = load_image_snapshot(root.parent).engine
    kernel = find_kernel(home / "kernel")
    assert engine is not None
    assert kernel is not None
    driver = QemuDriver(engine, native.memory_shim_path(), native.tsc_khz())
    bench = Bench(
        driver=driver, base=Saved(scratch, ()), shape=SHAPE, root=root, scratch=scratch,
        boot=lambda directory: _boot(kernel, directory), application=APPLICATION,
        prepare_boot=lambda directory: disk.make_writable(directory / DISK, SIZE.disk_bytes),
        find_process=_find_process, leave=_leave, end=_end,
    )  # fmt: skip
    bench.base = await boot_base(bench)
    bench.made.clear()  # it has ended, and belongs to another event loop
    return bench


def _boot(kernel: Kernel, directory: Path) -> KernelBoot:
    return KernelBoot(kernel.image, kernel.initramfs, directory / "console")


def _find_process(directory: Path) -> AdoptedProcess:
    survivor = find_survivor(directory)
    assert survivor is not None
    return survivor.process


async def _leave(vm: Vm) -> None:
    assert isinstance(vm, QemuVm)
    await vm._monitor.close()


def _end(_vm: Vm, directory: Path) -> None:
    os.kill(json.loads((directory / "vmm.json").read_text())["pid"], signal.SIGKILL)
