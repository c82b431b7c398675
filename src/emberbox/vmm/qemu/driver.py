"""Starting QEMU: open the files, lay them out as descriptors, spawn it in its cage, connect to its monitor."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from emberbox.host.architecture import X86_64, Architecture
from emberbox.host.network.slots import DeviceKind
from emberbox.host.sockets import listen
from emberbox.model.errors import HostError, VmmError
from emberbox.process import describe_exit
from emberbox.process.adoption import AdoptedProcess
from emberbox.process.watched import Child
from emberbox.vmm.base import (
    DISK,
    AdoptPlan,
    BootPlan,
    Cage,
    Capabilities,
    KernelBoot,
    MachineShape,
    Network,
    RestorePlan,
    SavedStates,
    VmFiles,
    Wire,
)
from emberbox.vmm.engine import NAMES, Engine
from emberbox.vmm.paged.files import DEVICES, MEMORY, OWN_DEVICES, MemoryLayer, stack_of
from emberbox.vmm.paged.saving import Started
from emberbox.vmm.paged.states import PagedStates
from emberbox.vmm.qemu import arguments
from emberbox.vmm.qemu.arguments import Descriptors, descriptor_path
from emberbox.vmm.qemu.clock import advance_clock, find_accelerator, has_user_network
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.spawn import keep_content, open_file, open_kvm, shim_environment, spawn
from emberbox.vmm.qemu.tap import HeldTap
from emberbox.vmm.qemu.vm import QemuVm, last_error, log_size

MEMORY_BYTES_PER_MIB = 1 << 20

CAPABILITIES = Capabilities(
    own_kernel=True,
    user_network=True,
    opens_ports=True,
    holds_networks=True,
    moves_clock=True,
    stalls=True,
    holds_writes=True,
    leads_to_loopback=True,
    device=DeviceKind.TAP,
)

_LAST_WORDS_S = 1.0


class QemuDriver:
    """Runs VMs with QEMU.

    Args:
        engine: the installed QEMU, and whether it runs guests on KVM (see probe.py).
        memory_shim: the library that gives QEMU read-only layers of memory, and KVM.
        tsc_khz: the rate of the machine's time-stamp counter, for emulated guests; no matter to those of another kind.
        guest: what kind of processor guests have.
        program: QEMU, where it is not the one that is found by its name.
    """

    def __init__(
        self, engine: Engine, memory_shim: Path, tsc_khz: int, guest: Architecture = X86_64, program: Path | None = None
    ) -> None:
        self._engine = engine
        self._memory_shim = memory_shim
        self._tsc_khz = tsc_khz if engine.accelerator == "tcg" and guest == X86_64 else None
        self._guest = guest
        self._program = program
        # Where KVM keeps the clock of an AArch64 guest is in no section of its own, which could be moved on.
        self._moves_clock = guest == X86_64 or engine.accelerator == "tcg"
        self.capabilities = replace(CAPABILITIES, moves_clock=self._moves_clock)
        self.states: SavedStates = PagedStates()

    @property
    def engine(self) -> Engine:
        """What new VMs run with, as far as this server has seen: QEMU may be upgraded while it runs."""
        return self._engine

    async def boot(self, plan: BootPlan) -> QemuVm:
        """Start a VM from its kernel.

        Raises:
            VmmError: QEMU ended or did not answer.
            HostError: QEMU is missing, or a file cannot be made.
        """
        boot = plan.boot
        if not isinstance(boot, KernelBoot):
            raise VmmError("QEMU boots a kernel")
        with contextlib.ExitStack() as opened:
            create = os.O_RDWR | os.O_CREAT | os.O_EXCL
            memory = open_file(opened, plan.files.directory / MEMORY, create, plan.cage)
            os.ftruncate(memory, plan.shape.mem_size_mib * MEMORY_BYTES_PER_MIB)
            fds = Descriptors(
                **await self._common(opened, plan.files, plan.cage, plan.network),
                memory=memory,
                kernel=open_file(opened, boot.kernel_image, os.O_RDONLY),
                initramfs=open_file(opened, boot.initramfs, os.O_RDONLY),
                console=open_file(opened, boot.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, plan.cage),
            )
            environment = {} if fds.kvm is None else shim_environment(self._memory_shim, fds.kvm)
            command = [
                *arguments.accelerator_args(self._engine.accelerator, boots=True, guest=self._guest),
                *self._machine_args(plan.shape, fds.memory, shared=True),
                *arguments.device_args(fds),
                *arguments.boot_args(fds, self._tsc_khz, self._guest),
            ]
            return await self._spawn(opened, command, fds, plan.files, plan.cage, environment, None)

    async def restore(self, plan: RestorePlan) -> QemuVm:
        """Start a VM from saved state, paused.

        Raises:
            VmmError: QEMU ended, did not answer, or refused the saved state.
            HostError: QEMU is missing, or a file cannot be opened.
        """
        with contextlib.ExitStack() as opened:
            fds = Descriptors(
                **await self._common(opened, plan.files, plan.cage, plan.network),
                memory=open_file(opened, plan.base.path(MEMORY), os.O_RDONLY),
                saved_devices=self._open_devices(opened, plan),
            )
            layers, layer_fds = _open_layers(opened, stack_of(plan.base, plan.own))
            environment = {
                **shim_environment(self._memory_shim, fds.kvm),
                "EMBERBOX_MEMORY_FD": str(fds.memory),
                "EMBERBOX_MEMORY_PATH": descriptor_path(fds.memory),
            }
            if layers is not None:
                environment["EMBERBOX_MEMORY_LAYERS_FD"] = str(layers)
            command = [
                *arguments.accelerator_args(self._engine.accelerator, boots=False, guest=self._guest),
                *self._machine_args(plan.shape, fds.memory, shared=False),
                *arguments.device_args(fds),
                *arguments.restore_args(fds),
            ]
            started = Started(plan.shape, plan.base, plan.own)
            vm = await self._spawn(opened, command, fds, plan.files, plan.cage, environment, started, layer_fds)
        try:
            await vm.wait_restored()
        except BaseException:
            await vm.kill()
            raise
        return vm

    def _machine_args(self, shape: MachineShape, memory_fd: int, *, shared: bool) -> list[str]:
        guest, accelerator = self._guest, self._engine.accelerator
        return arguments.machine_args(shape, memory_fd, shared=shared, guest=guest, accelerator=accelerator)

    def _open_devices(self, opened: contextlib.ExitStack, plan: RestorePlan) -> int:
        """Return the saved devices, with their clock moved on. What does not say its engine is looked at here."""
        path = plan.base.path(DEVICES) if plan.own is None else plan.own.path(OWN_DEVICES)
        state, accelerator = _read(path), self._engine.accelerator
        saved_with = find_accelerator(state) if self._guest == X86_64 else None
        if saved_with not in (None, accelerator):
            raise VmmError(
                f"it was saved with {NAMES[saved_with]}, and this server runs guests with {NAMES[accelerator]}; start "
                f"the server with EMBERBOX_ACCELERATOR={saved_with} where that works, or build the image again"
            )
        if isinstance(plan.network, Wire) and has_user_network(state):
            raise VmmError(
                "it was saved with a user-mode network, whose state no other network can take; start the server with "
                "EMBERBOX_NETWORK=user, or build the image again"
            )
        if not plan.stood_still_s or not self._moves_clock:
            return open_file(opened, path, os.O_RDONLY)
        return keep_content(opened, advance_clock(state, plan.stood_still_s, accelerator, self._tsc_khz or 0))

    async def adopt(self, process: AdoptedProcess, plan: AdoptPlan) -> QemuVm:
        """Take over a VM that another server started: its monitor accepts a new connection.

        Raises:
            VmmError: QEMU does not answer.
        """
        directory = plan.files.directory
        monitor = await Monitor.connect(directory / "qmp.sock")
        try:
            engine = replace(await monitor.find_engine(), vmm=self._engine.vmm)
        except BaseException:
            await monitor.close()
            raise
        log_path, started = directory / "vmm.log", Started(plan.shape, plan.base, plan.own)
        return QemuVm(process, monitor, engine, plan.files, started, log_path, log_size(log_path))

    async def _spawn(
        self,
        opened: contextlib.ExitStack,
        command: list[str],
        fds: Descriptors,
        files: VmFiles,
        cage: Cage,
        environment: Mapping[str, str],
        started: Started | None,
        more_fds: tuple[int, ...] = (),
    ) -> QemuVm:
        log_path = files.directory / "vmm.log"
        said_before = log_size(log_path)
        command = [*arguments.name_args(fds, self._guest), *command]
        passed = [*fds.numbers(), *more_fds]
        child = await spawn(cage, command, passed, environment, log_path, program=fds.program)
        opened.close()  # QEMU alone has its sockets now: they end with it
        try:
            monitor = await Monitor.connect(files.directory / "qmp.sock")
        except VmmError as error:
            how = await _tell_end(child) or str(error)
            await child.kill_group()
            raise VmmError(f"QEMU did not start: {how}: {last_error(log_path, said_before)}") from None
        except BaseException:
            await child.kill_group()
            raise
        self._engine = replace(self._engine, version=monitor.version)
        return QemuVm(child, monitor, self._engine, files, started, log_path, said_before)

    async def _common(
        self, opened: contextlib.ExitStack, files: VmFiles, cage: Cage, network: Network
    ) -> dict[str, int]:
        fds = {
            "root": open_file(opened, files.root, os.O_RDONLY),
            "disk": open_file(opened, files.directory / DISK, os.O_RDWR, cage),
            "qmp": listen(opened, files.directory / "qmp.sock"),
            "agent": listen(opened, files.directory / "agent.sock"),
        }
        if self._engine.accelerator == "kvm":
            fds["kvm"] = open_kvm(opened)
        if self._program is not None:
            fds["program"] = open_file(opened, self._program, os.O_RDONLY)
        if isinstance(network, Wire):
            fds["tap"] = await _open_tap(opened, network)
        return fds


async def _tell_end(child: Child) -> str:
    """Say how a child ended; "" where it goes on, or does not end soon after its monitor was lost."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            return f"it {describe_exit(await child.wait())}"
    return ""


async def _open_tap(opened: contextlib.ExitStack, wire: Wire) -> int:
    """Return the guest's tap device: the one that was held, with the packets that wait in it, or a new one."""
    if wire.held is not None:
        assert isinstance(wire.held, HeldTap)
        return wire.held.fileno()
    tap = HeldTap(await wire.open_device())
    opened.callback(tap.close)
    return tap.fileno()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(f"{path.name} cannot be read: {error.strerror}") from error


def _open_layers(opened: contextlib.ExitStack, layers: tuple[MemoryLayer, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Describe the layers to the memory shim in an unnamed file (the form is in agent/memory_shim.c)."""
    if not layers:
        return None, ()
    lines, fds = [], []
    for layer in layers:
        fd = open_file(opened, layer.path, os.O_RDONLY)
        fds.append(fd)
        lines.append(f"file {fd}")
        lines += [f"{first} {count}" for first, count in layer.runs]
    fd = keep_content(opened, "\n".join(lines).encode() + b"\n")
    return fd, (*fds, fd)
