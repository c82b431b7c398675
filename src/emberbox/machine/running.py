"""What can be asked of a guest's VM while it runs: how it fares, what it costs, and to stand still or go on."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from emberbox.machine.usage import measure_running
from emberbox.model.errors import VmmError
from emberbox.model.usage import Usage
from emberbox.vmm.base import Capabilities, Vm
from emberbox.vmm.engine import Engine

log = logging.getLogger(__name__)


class RunningVm:
    """The VM of a guest.

    Attributes:
        directory: the microVM's own files.

    Args:
        directory: see there.
        vm: the VM.
        capabilities: its engine's.
    """

    def __init__(self, directory: Path, vm: Vm, capabilities: Capabilities) -> None:
        self.directory = directory
        self._vm = vm
        self._capabilities = capabilities

    @property
    def engine(self) -> Engine:
        """What its saved state will be of."""
        return self._vm.engine

    def measure(self) -> Usage:
        """Return what it costs the machine now; takes some milliseconds.

        Raises:
            OSError, VmmError: its VMM has ended.
        """
        return measure_running(self._vm, self.directory)

    def cpu_seconds(self) -> float:
        """Return how much processor time the VMM has used.

        Raises:
            VmmError: it has ended.
        """
        try:
            return self._vm.cpu_seconds()
        except OSError as error:
            raise VmmError("the VMM has ended") from error

    async def is_stalled(self) -> bool:
        """Say whether its VMM has stopped it because the host's disk is full.

        Raises:
            VmmError: the VMM has ended.
        """
        return self._capabilities.stalls and await self._vm.is_stalled()

    async def wait_stalled(self) -> None:
        """Wait until its VMM stops it for that reason; for ever where the engine never does.

        Raises:
            VmmError: the VMM has ended.
        """
        await wait_stalled(self._vm, self._capabilities)

    async def go_on(self) -> None:
        """Let it go on where its VMM stopped it; what it had not written is written now.

        Raises:
            VmmError: the VMM has ended.
        """
        await self._vm.unpause()

    async def wait_exited(self) -> str:
        """Wait until the VMM's process has ended; return in words how."""
        return await self._vm.wait_exited()

    async def pause(self) -> None:
        """Stop it as it is; it costs memory and no processor time.

        Raises:
            VmmError: the VMM has ended.
        """
        await self._vm.pause()


async def wait_stalled(vm: Vm, capabilities: Capabilities) -> None:
    """Wait until a VM is stopped because the host's disk is full; for ever where the engine never does that.

    Raises:
        VmmError: it has ended.
    """
    if not capabilities.stalls:
        await asyncio.get_running_loop().create_future()
    await vm.wait_stalled()


async def hold_writes(vm: Vm, capabilities: Capabilities, *, held: bool) -> None:
    """Let what a guest writes wait, or go on, where the engine can do that."""
    if not capabilities.holds_writes:
        return
    try:
        await vm.hold_writes(held=held)
    except VmmError as error:  # it ends just now, or an earlier release has started it
        log.warning("what a microVM writes could not be %s: %s", "held up" if held else "let go on", error)
