"""Saving a guest: its application is frozen, it stands still, the engine writes it. What fails lets it run on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from emberbox.background import in_thread
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.host.space import DiskSpace
from emberbox.machine.base import SuspendFigures
from emberbox.machine.checkpoint import Checkpoint
from emberbox.machine.running import RunningVm, hold_writes
from emberbox.machine.snapshot import SuspendedState, forget_suspended, is_suspended
from emberbox.model.clock import Instant
from emberbox.model.errors import GuestError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Capabilities, Vm

log = logging.getLogger(__name__)

LATE_THAW_TIMEOUT_S = limit_s(1.0)


@dataclass(frozen=True, slots=True)
class Saving:
    """One guest that is to be saved.

    Args:
        directory: the microVM's own files.
        vm: its VM.
        capabilities: its engine's.
        agent: its agent.
        space: the room on the disk.
        cut: resets its connections to elsewhere, where the engine cannot hold them; called while the application stands
            still, so that none is added.
        lose: called when its application could not be let run on.
    """

    directory: Path
    vm: Vm
    capabilities: Capabilities
    agent: Agent
    space: DiskSpace
    cut: Callable[[], Awaitable[None]]
    lose: Callable[[GuestError], None]

    async def suspend(self, running: RunningVm) -> SuspendFigures:
        """Save the guest; it stands still afterwards, and its saved state counts.

        Raises:
            GuestError, VmmError, OSError: it could not be saved; it still runs.
        """
        stalled = await running.is_stalled()
        if not stalled:
            await self._freeze()
        try:
            await self.vm.pause()
            stopped = Instant.now()
            # One piece of work, which nobody's cancellation parts: a state that was written counts.
            written = await self.vm.save(lambda saved: SuspendedState(saved, stopped).publish())
        except Exception:
            try:
                if stalled:
                    forget_suspended(self.directory)
                else:
                    await self._run_on()
            finally:
                if not is_suspended(self.directory):  # else it counts, and will be resumed
                    self.vm.forget_saved()
            raise
        return SuspendFigures(written.memory_bytes)

    async def capture(self, checkpoint: Checkpoint) -> None:
        """Take the guest's state at one instant and let it run on.

        The application stands still meanwhile; what could be done before or after that is not done here.

        Raises:
            GuestError, VmmError, OSError: it could not be captured; the guest runs on.
        """
        await self._freeze()
        try:
            await self.vm.pause()
            await checkpoint.draft.capture()
        finally:
            await self._run_on()

    async def _freeze(self) -> None:
        """Stop the application; what it does is undone where that fails.

        Writes that are held up are let go meanwhile: a process cannot be stopped before its write has ended.
        """
        is_held = self.space.is_full
        if is_held:
            await hold_writes(self.vm, self.capabilities, held=False)
        try:
            await self._freeze_or_thaw()
        finally:
            if is_held:
                await hold_writes(self.vm, self.capabilities, held=self.space.is_full)

    async def _freeze_or_thaw(self) -> None:
        try:
            await self.agent.freeze()
            if not self.capabilities.holds_networks:
                await self.cut()
        except GuestError:
            with contextlib.suppress(GuestError):  # a guest that freezes late must not stay so
                await self.agent.thaw(fresh_identity(), LATE_THAW_TIMEOUT_S)
            raise

    async def _run_on(self) -> None:
        try:
            await in_thread(forget_suspended, self.directory)
        except OSError:
            if is_suspended(self.directory):  # it counts, so the guest must not run
                raise
            log.exception("that %s runs on is not sure to survive a power cut", self.directory.name)
        try:
            await self.vm.unpause()
            await self.agent.thaw(fresh_identity())
        except (GuestError, VmmError) as error:
            self.lose(GuestError(f"its application could not be let run on: {error}"))
            raise
