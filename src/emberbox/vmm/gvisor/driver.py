"""Starting sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from emberbox.background import in_thread
from emberbox.host.cgroups import Group, Groups
from emberbox.host.network.slots import DeviceKind
from emberbox.host.runsc.command import SANDBOX_ID
from emberbox.host.runsc.control import Control, SandboxError
from emberbox.model.errors import VmmError
from emberbox.process.adoption import AdoptedProcess
from emberbox.process.watched import Child
from emberbox.time_limits import limit_s
from emberbox.vmm.base import (
    AdoptPlan,
    BootPlan,
    Capabilities,
    MachineShape,
    RestorePlan,
    RootBoot,
    SavedStates,
    VmFiles,
)
from emberbox.vmm.channel import dial_unix
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor import sandbox
from emberbox.vmm.gvisor.files import GvisorStates
from emberbox.vmm.gvisor.limits import make_group
from emberbox.vmm.gvisor.sandbox import control_of
from emberbox.vmm.gvisor.start import Device, Restoring, connect, open_device
from emberbox.vmm.gvisor.vm import LOADING, PAUSED, GvisorVm

CAPABILITIES = Capabilities(
    own_kernel=False,
    user_network=os.geteuid() != 0,  # root can make networks that lead outside, and is to mend what keeps it from that
    opens_ports=False,
    holds_networks=False,
    moves_clock=False,
    stalls=False,
    holds_writes=False,
    leads_to_loopback=False,
    device=DeviceKind.PACKETS,
)
ANSWER_TIMEOUT_S = limit_s(3.0)
LOAD_TIMEOUT_S, LOAD_POLL_S = limit_s(10.0), 0.1
GREETING = (16).to_bytes(4, "little") + bytes((1, *bytes(7))) + bytes(16)
"""A HELLO of the agent's protocol (docs/guest-protocol.md): whoever connects next greets it anew."""


class GvisorDriver:
    """Runs guests in sandboxes.

    Args:
        engine: the installed gVisor.
        runsc: its program.
        groups: makes what sandboxes are held in; None limits nothing.
    """

    def __init__(self, engine: Engine, runsc: Path, groups: Groups | None = None) -> None:
        self.engine = engine
        self._runsc = runsc
        self._groups = groups or Groups()
        self.capabilities = CAPABILITIES
        self.states: SavedStates = GvisorStates()

    async def boot(self, plan: BootPlan) -> GvisorVm:
        """Start a sandbox whose first process is the agent in the image.

        Raises:
            VmmError, HostError: it could not be made.
        """
        if not isinstance(plan.boot, RootBoot):
            raise VmmError("gVisor boots no kernel")
        async with open_device(plan.network) as device:
            keeper, group = await self._create(plan.files, plan.shape, device, boots=True)
            vm = GvisorVm(keeper, control_of(keeper), self.engine, plan.files, None, group, booted=True)
            try:
                await connect(control_of(keeper), device)
                await control_of(keeper).start()
            except SandboxError as error:
                await vm.kill()
                raise VmmError(str(error)) from error
            except BaseException:
                await vm.kill()
                raise
        return vm

    async def _create(
        self, files: VmFiles, shape: MachineShape, device: Device, *, boots: bool
    ) -> tuple[Child, Group]:  # fmt: skip
        group = await make_group(self._groups, files, shape)
        try:
            return await sandbox.create(self._runsc, files, shape, group, device.nowhere, boots=boots), group
        except BaseException:
            await in_thread(group.remove)
            raise

    async def restore(self, plan: RestorePlan) -> GvisorVm:
        """Make a sandbox that loads saved state when it is let run.

        Raises:
            VmmError, HostError: it could not be made, or the state is none.
        """
        async with open_device(plan.network) as device:
            restoring = Restoring(plan.own or plan.base)
            try:
                keeper, group = await self._create(plan.files, plan.shape, device, boots=False)
            except BaseException:
                restoring.close()
                raise
            vm = GvisorVm(keeper, control_of(keeper), self.engine, plan.files, restoring, group, booted=False)
            try:
                await connect(control_of(keeper), device)
            except BaseException:
                await vm.kill()
                raise
        return vm

    async def adopt(self, process: AdoptedProcess, plan: AdoptPlan) -> GvisorVm:
        """Take over a sandbox that another server started: its keeper accepts a new connection.

        Raises:
            VmmError: it does not answer.
        """
        directory = plan.files.directory
        control = control_of(process)
        try:
            has_begun = await _has_begun(control, directory)
        except SandboxError as error:
            raise VmmError(str(error)) from error
        restoring = None if has_begun else Restoring(plan.own or plan.base)
        paused = (directory / PAUSED).exists() and not await _answers(directory)
        group = self._groups.find(process.pid)
        return GvisorVm(process, control, self.engine, plan.files, restoring, group, booted=False, is_paused=paused)


async def _has_begun(control: Control, directory: Path) -> bool:
    """Say whether something runs in a sandbox: its server may have been killed before it had it load its state.

    One that was asked to load it does so by itself, and has nothing in it until then.

    Raises:
        SandboxError: it is gone.
    """
    deadline = asyncio.get_running_loop().time() + LOAD_TIMEOUT_S
    while not await control.call("containerManager.Processes", SANDBOX_ID):
        if not (directory / LOADING).exists() or asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(LOAD_POLL_S)
    return True


async def _answers(directory: Path) -> bool:
    """Say whether a guest runs, when it was last heard that it was being paused or let go on: its agent answers."""
    loop = asyncio.get_running_loop()
    with await dial_unix(directory / sandbox.CHANNEL) as connection, contextlib.suppress(TimeoutError, OSError):
        await loop.sock_sendall(connection, GREETING)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return bool(await loop.sock_recv(connection, 1))
    return False
