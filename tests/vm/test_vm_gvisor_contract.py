"""The engines' contract, over gVisor: the same tests as over QEMU."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from emberbox import process as tools
from emberbox.host import disk, native
from emberbox.host.runsc.program import ensure_runsc
from emberbox.process.adoption import descendants, error_logs
from emberbox.time_limits import limit_s
from emberbox.vmm.base import RootBoot, Saved, Vm
from emberbox.vmm.gvisor import GvisorDriver
from emberbox.vmm.gvisor.choice import find_engine
from support.engine_contract import Bench, EngineContract, application, boot_base
from support.images import Image
from support.server import Server
from support.vm_bench import APPLICATION, SHAPE, end_noted, find_noted, find_root

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def made(server: Server, probe_image: Image) -> Iterator[Bench]:
    """A bench whose base was booted here, from what the server has built, whatever its engine is."""
    with tempfile.TemporaryDirectory(dir=server.home / "runtime") as scratch:
        yield asyncio.run(make_bench(find_root(server, probe_image), server.home, Path(scratch)))


class TestGvisor(EngineContract):
    @pytest.fixture
    async def bench(self, made: Bench) -> AsyncIterator[Bench]:
        yield made
        await made.close()

    async def test_one_process_of_each_guest_is_known_by_its_log(self, bench: Bench) -> None:
        """All others of it would be ended by the next server, as nobody has noted them."""
        _vm, directory = await bench.launch()
        log = str(directory / "vmm.log")
        assert [path for _pid, path in error_logs() if path == log] == [log]

    async def test_nothing_is_left_of_a_guest_whose_keeper_is_killed(self, bench: Bench) -> None:
        vm, directory = await bench.launch()
        async with application(vm):
            pass
        vm.write_note(directory / "vmm.json")
        started = descendants(find_noted(directory).pid)
        assert len(started) > 1
        bench.end(vm, directory)
        async with asyncio.timeout(limit_s(10)):
            for process in started:
                await process.wait()


async def make_bench(root: Path, home: Path, scratch: Path) -> Bench:
    """Boot the application of an image, packed anew as this engine reads it, and save it."""
    runsc = await ensure_runsc(home, os.environ.get("EMBERBOX_RUNSC", ""))
    bench = Bench(
        driver=GvisorDriver(await find_engine(runsc), runsc), base=Saved(scratch, ()), shape=SHAPE,
        root=await _pack_plainly(root, scratch), scratch=scratch,
        boot=lambda _directory: RootBoot(native.agent_path()), application=APPLICATION,
        prepare_boot=_nothing, find_process=find_noted, leave=_leave, end=end_noted,
    )  # fmt: skip
    bench.base = await boot_base(bench)
    bench.made.clear()  # it has ended, and belongs to another event loop
    return bench


async def _pack_plainly(root: Path, scratch: Path) -> Path:
    files, packed = scratch / "files", scratch / "root.erofs"
    await tools.run(["fsck.erofs", f"--extract={files}", "--force", root], timeout=600)
    shutil.copy2(native.agent_path(), files / native.AGENT_IN_IMAGE.lstrip("/"))
    await disk.make_root(files, packed, plain=True)
    shutil.rmtree(files)
    return packed


async def _nothing(_directory: Path) -> None:
    """A guest's directory needs nothing before a boot."""


async def _leave(_vm: Vm) -> None:
    """Nothing of a server's is in the way of the next one."""
