"""Is gVisor of use here? A tiny sandbox is run, saved and restored, as every microVM is, by this server's own means.

Its image holds the agent and nothing else. What a sandbox needs of the machine (namespaces, seccomp, cgroups, a kernel
that systrap works on) shows in that: none of it can be asked for beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from emberbox.host import disk, native
from emberbox.model.errors import GuestError, HostError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import (
    BootPlan,
    Cage,
    MachineShape,
    RestorePlan,
    RootBoot,
    Saved,
    UserNetwork,
    Vm,
    VmFiles,
    VmmDriver,
)
from emberbox.vmm.gvisor.driver import GREETING

PROBE_TIMEOUT_S = limit_s(60.0)
SHAPE: Final = MachineShape(1, 64)
_CAGE: Final = Cage(None, None)
_PARTS: Final = ("proc", "sys", "dev", "tmp")


async def probe_sandbox(driver: VmmDriver) -> str:
    """Run the tiny sandbox; return why it does not work here, empty when it does.

    Args:
        driver: what would run microVMs.
    """
    with tempfile.TemporaryDirectory(prefix="emberbox-probe-", ignore_cleanup_errors=True) as name:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await _run_save_restore(driver, Path(name))
        except TimeoutError:
            return f"a tiny sandbox was not run, saved and restored within {PROBE_TIMEOUT_S:g} s"
        except (HostError, VmmError, GuestError, OSError) as error:
            return f"a tiny sandbox does not work: {error}"
    return ""


async def _run_save_restore(driver: VmmDriver, directory: Path) -> None:
    root = await _make_root(directory)
    async with _ended(await driver.boot(_boot_plan(directory, root))) as vm:
        await _greet(vm)
        await vm.pause()
        saved = (await vm.save(_publish)).saved
    async with _ended(await driver.restore(_restore_plan(directory, root, saved))) as vm:
        await vm.unpause()
        await _greet(vm)


async def _make_root(directory: Path) -> Path:
    files, root = directory / "files", directory / "root.erofs"
    for part in _PARTS:
        (files / part).mkdir(parents=True)
    shutil.copy2(native.agent_path(), files / native.AGENT_IN_IMAGE.lstrip("/"))
    await disk.make_root(files, root, plain=True)
    return root


def _boot_plan(directory: Path, root: Path) -> BootPlan:
    files = VmFiles(directory / "booted", root)
    files.directory.mkdir()
    return BootPlan(SHAPE, files, _CAGE, UserNetwork(), RootBoot(native.agent_path()))


def _restore_plan(directory: Path, root: Path, saved: Saved) -> RestorePlan:
    files = VmFiles(directory / "restored", root)
    files.directory.mkdir()
    return RestorePlan(SHAPE, files, _CAGE, UserNetwork(), saved, None, 0.0)


@contextlib.asynccontextmanager
async def _ended(vm: Vm) -> AsyncIterator[Vm]:
    try:
        yield vm
    finally:
        await vm.kill()


async def _greet(vm: Vm) -> None:
    """Greet its agent, and wait until it answers.

    Raises:
        VmmError: it has ended.
    """
    loop = asyncio.get_running_loop()
    with await vm.dial_agent() as connection:
        connection.setblocking(False)
        await loop.sock_sendall(connection, GREETING)
        if not await loop.sock_recv(connection, 1):
            raise VmmError(await vm.wait_exited())


def _publish(_saved: Saved) -> None:
    """Nothing counts on what is saved here."""
