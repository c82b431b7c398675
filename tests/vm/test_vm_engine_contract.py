"""The engines' contract, over QEMU: the same tests that tests/unit/vmm runs over an engine without VMs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from emberbox.host import disk, native
from emberbox.host.kernel import Kernel, find_kernel
from emberbox.machine.snapshot import load_image_snapshot
from emberbox.vmm.base import DISK, KernelBoot, Saved, Vm
from emberbox.vmm.qemu import QemuDriver
from emberbox.vmm.qemu.vm import QemuVm
from support.engine_contract import Bench, EngineContract, boot_base
from support.images import Image
from support.server import Server
from support.vm_bench import APPLICATION, SHAPE, SIZE, end_noted, find_noted, find_root

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def made(server: Server, probe_image: Image) -> Iterator[Bench]:
    """A bench whose base was booted here: with the engine's own network, whatever the server's microVMs have."""
    root = find_root(server, probe_image)
    with tempfile.TemporaryDirectory(dir=server.home / "runtime") as scratch:
        yield asyncio.run(_make(root, server.home, Path(scratch)))


class TestQemu(EngineContract):
    @pytest.fixture
    async def bench(self, made: Bench) -> AsyncIterator[Bench]:
        yield made
        await made.close()


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
        find_process=find_noted, leave=_leave, end=end_noted,
    )  # fmt: skip
    bench.base = await boot_base(bench)
    bench.made.clear()  # it has ended, and belongs to another event loop
    return bench


def _boot(kernel: Kernel, directory: Path) -> KernelBoot:
    return KernelBoot(kernel.image, kernel.initramfs, directory / "console")


async def _leave(vm: Vm) -> None:
    assert isinstance(vm, QemuVm)
    await vm._monitor.close()
