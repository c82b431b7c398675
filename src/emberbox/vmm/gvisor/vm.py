"""One running sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from emberbox import process
from emberbox.background import in_thread, to_the_end
from emberbox.host.cgroups import Group
from emberbox.host.runsc.control import Control, SandboxError
from emberbox.model.errors import GuestError, VmmError
from emberbox.process.adoption import write_note
from emberbox.process.watched import WatchedProcess
from emberbox.vmm.base import Publish, Saved, VmFiles, VmUsage, Written
from emberbox.vmm.channel import dial_unix
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor import files, sandbox
from emberbox.vmm.gvisor.files import BASE, OWN, StateNames
from emberbox.vmm.gvisor.lacks import Lacks
from emberbox.vmm.gvisor.start import Restoring

PAUSED = "paused"
"""A file in a guest's directory: it was being paused, or let go on. Pauses count, so the next server must know."""

LOADING = "loading"
"""A file in a guest's directory: its sandbox has been asked to load its state, and has not said yet that it did."""


class GvisorVm(Lacks):
    """A sandbox of ours; see `emberbox.vmm.base.Vm` for the order rules.

    A restored one has been made, and its state is loaded when it is let run: loading lets it run.

    Args:
        keeper: its leading process.
        control: what speaks to it.
        engine: what it is.
        files: where its files are.
        restoring: what it is to be restored from; None when it runs.
        group: what it is held in, which ends with it; None limits nothing.
        booted: it was not restored, and saves a base.
        is_paused: whether it stands still; of no concern while it is to be restored.
    """

    def __init__(
        self, keeper: WatchedProcess, control: Control, engine: Engine, files: VmFiles, restoring: Restoring | None,
        group: Group | None = None, *, booted: bool, is_paused: bool = False,
    ) -> None:  # fmt: skip
        self._keeper = keeper
        self._control = control
        self.engine = engine
        """What its saved state will be of."""
        self._files = files
        self._restoring = restoring
        self._group = group or Group(())
        self._is_short = False
        self._names = BASE if booted else OWN
        self._is_paused = is_paused
        self._said_before = sandbox.log_size(files.directory)
        self._turn = asyncio.Lock()

    def _check_alive(self) -> None:
        if self._keeper.returncode is not None:
            raise VmmError("the sandbox has ended")

    @property
    def _marker(self) -> Path:
        return self._files.directory / PAUSED

    async def pause(self) -> None:
        """Stop all of its tasks."""
        self._check_alive()
        async with self._turn:
            if self._restoring is None and not self._is_paused:
                self._marker.touch()
                await _ask(self._control.pause())
                self._is_paused = True

    async def unpause(self) -> None:
        """Let its tasks run; load them at the first time."""
        self._check_alive()
        async with self._turn:
            if self._restoring is not None:
                await self._restore()
            elif self._is_paused:
                await _ask(self._control.unpause())
                self._is_paused = False
                self._marker.unlink(missing_ok=True)

    async def _restore(self) -> None:
        assert self._restoring is not None
        loading = self._files.directory / LOADING
        loading.touch()
        await _ask(self._restoring.restore(self._control))
        self._restoring.close()
        self._restoring = None
        loading.unlink(missing_ok=True)

    async def save(self, publish: Publish) -> Written:
        """Let gVisor write everything; what is under way when the wait is cancelled is seen to its end.

        Raises:
            OSError: the disk is full; VmmError: it failed for another reason.
        """
        return await to_the_end(self._save(self._files.directory, self._names, publish))

    async def _save(self, directory: Path, names: StateNames, publish: Publish | None) -> Written:
        self._check_alive()
        async with self._turn:
            if self._restoring is not None:
                await self._restore()
                await _ask(self._control.pause())
                self._is_paused = True
            if not self._is_paused:
                raise VmmError("a guest is saved while it stands still")
            with files.new_files(directory, names) as fds:
                try:
                    await _ask(self._control.checkpoint(*fds))
                except VmmError:
                    files.check_room(*fds)  # what gVisor says of a full disk has no word of it
                    raise
        written = Written(files.saved(directory, names, self.engine), files.stored_bytes(directory, names))
        if publish is not None:
            await in_thread(publish, written.saved)
        return written

    def forget_saved(self) -> None:
        """Remove what was saved: it may be large, and the disk full."""
        for name in self._names.all():
            (self._files.directory / name).unlink(missing_ok=True)

    async def draft(self, directory: Path) -> GvisorDraft:
        """Begin to make a base of it."""
        self._check_alive()
        return GvisorDraft(self, directory)

    async def capture(self, directory: Path) -> Saved:
        """Save a base into a directory, for a draft."""
        return (await to_the_end(self._save(directory, BASE, None))).saved

    async def dial_agent(self) -> socket.socket:
        """Connect to the keeper, which has the other end of the agent's standard input and output."""
        if self._keeper.returncode is not None:
            raise GuestError("the sandbox has ended")
        return await dial_unix(self._files.directory / sandbox.CHANNEL)

    def usage(self) -> VmUsage:
        """Look into /proc: the memory that has changed since the start is not known, all of it is saved each time."""
        self._check_alive()
        pid = self._keeper.pid
        return VmUsage(sandbox.resident_bytes(pid), 0, sandbox.cpu_seconds(pid))

    def cpu_seconds(self) -> float:
        """Look into /proc."""
        self._check_alive()
        return sandbox.cpu_seconds(self._keeper.pid)

    def write_note(self, path: Path, **more: str | int | None) -> None:
        """Note the keeper."""
        self._check_alive()
        write_note(path, self._keeper.pid, **more)

    async def kill(self) -> None:
        """End the keeper, and with it all in its namespace."""
        await self._keeper.kill_group()
        self._is_short = self._is_short or self._group.read_passed().memory
        await in_thread(self._group.remove)
        if self._restoring is not None:
            self._restoring.close()
        for name in (sandbox.CHANNEL, PAUSED, LOADING):
            with contextlib.suppress(OSError):
                (self._files.directory / name).unlink()

    async def wait_exited(self) -> str:
        """Wait until it has ended; return in words how."""
        returncode = await self._keeper.wait()
        words = sandbox.last_error(self._files.directory / sandbox.LOG, self._said_before)
        if self._is_short or self._group.read_passed().memory:
            words = f"{words}; something in it was killed for want of memory"
        return f"gVisor {process.describe_exit(returncode)}: {words}"


class GvisorDraft:
    """A base that is made of a guest; all of it is written while the guest stands still."""

    def __init__(self, vm: GvisorVm, directory: Path) -> None:
        self._vm = vm
        self._directory = directory
        self._saved: Saved | None = None

    async def capture(self) -> None:
        """Save it."""
        self._saved = await self._vm.capture(self._directory)

    async def store(self) -> Saved:
        """Return what was saved."""
        assert self._saved is not None, "a draft is stored after it was captured"
        return self._saved


async def _ask(call: Coroutine[Any, Any, None]) -> None:
    """Wait for a call, whose failures are the engine's."""
    try:
        await call
    except SandboxError as error:
        raise VmmError(str(error)) from error
