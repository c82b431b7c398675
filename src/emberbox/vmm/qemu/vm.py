"""One running QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

from emberbox import process
from emberbox.background import in_thread
from emberbox.host import usage
from emberbox.host.ports import free_port
from emberbox.model.errors import VmmError
from emberbox.process.adoption import write_note
from emberbox.process.watched import WatchedProcess
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Saved, VmFiles, VmUsage, Written
from emberbox.vmm.channel import dial_unix
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import saving
from emberbox.vmm.paged.files import DEVICES, MEMORY
from emberbox.vmm.paged.saving import Mapping, PagedDraft, Started
from emberbox.vmm.qemu.arguments import DISK_DEVICE, SET_DEVICES
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.tap import HeldTap

RESTORE_TIMEOUT_S = limit_s(60.0)
_POLL_S = 0.002


class QemuVm:
    """A QEMU process of ours; see `emberbox.vmm.base.Vm` for the order rules.

    Args:
        child: the process.
        monitor: a connection to its monitor.
        engine: what it is.
        files: where its files are.
        started: what lies under its memory; None after a boot, into a memory file of its own.
        log_path: where it writes its errors.
        said_before: how many bytes of that file cannot be about its end.
    """

    def __init__(
        self,
        child: WatchedProcess,
        monitor: Monitor,
        engine: Engine,
        files: VmFiles,
        started: Started | None,
        log_path: Path,
        said_before: int,
    ) -> None:
        self._child = child
        self._monitor = monitor
        self.engine = engine
        """What its saved state will be of."""
        self._files = files
        self._started = started
        self._log_path = log_path
        self._said_before = said_before
        self._forwarded: dict[int, int] = {}

    async def wait_restored(self) -> None:
        """Wait until the saved state has been loaded."""
        deadline = time.monotonic() + RESTORE_TIMEOUT_S
        while (await self._monitor.execute("query-status"))["status"] == "inmigrate":
            if time.monotonic() > deadline:
                raise VmmError(f"QEMU did not load the saved state within {RESTORE_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)
        self._said_before = log_size(self._log_path)  # warnings while it started are no reason to end later

    async def pause(self) -> None:
        """Stop the virtual processors; QEMU flushes the disk as part of it."""
        await self._monitor.execute("stop")

    async def unpause(self) -> None:
        """Let the virtual processors run."""
        await self._monitor.execute("cont")

    async def is_stalled(self) -> bool:
        """Say whether QEMU has stopped the guest: a write failed for want of space (its default, `werror=enospc`)."""
        return bool((await self._monitor.execute("query-status"))["status"] == "io-error")

    async def wait_stalled(self) -> None:
        """Wait until QEMU stops the guest by itself; the request waits in the device, also when that is saved."""
        with self._monitor.stops() as stops:
            while not await self.is_stalled():
                await stops.get()

    async def hold_writes(self, *, held: bool) -> None:
        """Limit the disk to a byte a second: one more request passes, then none for days. No limit lets all go on."""
        rates = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
        await self._monitor.execute("block_set_io_throttle", id=DISK_DEVICE, bps_wr=int(held), **rates)

    async def save(self) -> Written:
        """Write the devices, and the pages that the guest has changed; after a boot the memory is a file already."""
        await self._save_devices()
        if self._started is None:
            return await in_thread(saving.save_boot, self._files.directory, self.engine)
        return await in_thread(self._save_changes, self._started)

    def _save_changes(self, started: Started) -> Written:
        """Done in a thread that is waited for, whatever happens: it reads QEMU's memory."""
        return saving.save_changes(self._files.directory, started, self._mapping(started.base), self.engine)

    def forget_saved(self) -> None:
        """Make room again: the layer may be large, and the disk full."""
        if self._started is not None:
            saving.forget_changes(self._files.directory, self._started)

    async def draft(self, directory: Path) -> QemuDraft:
        """Begin to make a base of it; QEMU runs on."""
        if self._started is None:
            raise VmmError("a guest that was booted is saved as a whole")
        return QemuDraft(self, await in_thread(saving.begin_draft, self._started, directory))

    async def capture(self, draft: PagedDraft) -> None:
        """Take the state of a guest that stands still into a draft."""
        assert self._started is not None
        await self._save_devices()
        await in_thread(self._capture, draft, self._started)

    def _capture(self, draft: PagedDraft, started: Started) -> None:
        draft.capture(self._files.directory, self._mapping(started.base), self.engine)

    async def _save_devices(self) -> None:
        if (await self._monitor.execute("query-status"))["running"]:
            raise VmmError("a guest is saved while it stands still")
        await save_devices(self._monitor, self._files.directory / DEVICES)

    async def dial_agent(self) -> socket.socket:
        """Connect to the socket of the guest's serial port."""
        return await dial_unix(self._files.directory / "agent.sock")

    async def reach(self, port: int) -> tuple[str, int]:
        """Forward the port from a free one of the host's loopback, at the first call."""
        if port not in self._forwarded:
            host_port = self._forwarded[port] = free_port()
            command = f"hostfwd_add net tcp:127.0.0.1:{host_port}-127.0.0.1:{port}"
            answer = await self._monitor.execute("human-monitor-command", **{"command-line": command})
            if answer.strip():
                raise VmmError(f"QEMU could not forward a port: {answer.strip()}")
        return "127.0.0.1", self._forwarded[port]

    def hold_network(self) -> HeldTap:
        """Take the tap device over from QEMU: packets wait in it (docs/decisions/0023)."""
        return HeldTap.take_from(self._child.pid)

    def usage(self) -> VmUsage:
        """Look into /proc."""
        pid = self._child.pid
        changed = 0 if self._started is None else saving.changed_bytes(self._started, self._mapping(self._started.base))
        return VmUsage(usage.resident_bytes(pid), changed, usage.cpu_seconds(pid))

    def cpu_seconds(self) -> float:
        """Look into /proc."""
        return usage.cpu_seconds(self._child.pid)

    def write_note(self, path: Path, **more: str | int | None) -> None:
        """Note the process: the cage's commands have become QEMU by exec."""
        write_note(path, self._child.pid, **more)

    def _mapping(self, base: Saved) -> Mapping:
        """Return where the guest's memory begins in QEMU's address space, from /proc/<pid>/maps."""
        inode = base.path(MEMORY).stat().st_ino
        with Path(f"/proc/{self._child.pid}/maps").open() as maps:
            for line in maps:
                addresses, _, offset, _, number, *_ = line.split(maxsplit=5)
                if int(number) == inode:
                    return Mapping(self._child.pid, int(addresses.split("-")[0], 16) - int(offset, 16))
        raise VmmError("the guest's memory is not mapped")

    async def kill(self) -> None:
        """End QEMU at once."""
        await self._child.kill_group()
        await self._monitor.close()
        for name in ("qmp.sock", "agent.sock"):
            with contextlib.suppress(OSError):
                (self._files.directory / name).unlink()

    async def wait_exited(self) -> str:
        """Wait until QEMU has ended; return in words how."""
        returncode = await self._child.wait()
        if returncode == 0:  # nobody asked it to end, and a guest's reset is its end (-no-reboot)
            return "the guest's kernel panicked, or something in the guest restarted the machine"
        return f"QEMU {process.describe_exit(returncode)}: {last_error(self._log_path, self._said_before)}"


class QemuDraft:
    """A base that is made of a guest of QEMU's; made by `QemuVm.draft`."""

    def __init__(self, vm: QemuVm, pages: PagedDraft) -> None:
        self._vm = vm
        self._pages = pages

    async def capture(self) -> None:
        """Take devices, disk and changed pages, while QEMU stands still."""
        await self._vm.capture(self._pages)

    async def store(self) -> Saved:
        """Write the pages."""
        return await in_thread(self._pages.store)


async def save_devices(monitor: Monitor, destination: Path) -> None:
    """Write the device state of a paused QEMU: despite its name the command needs no Xen; it leaves memory out."""
    file = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        path = await monitor.lend_file(file, SET_DEVICES)
    finally:
        os.close(file)
    try:
        await monitor.execute("xen-save-devices-state", filename=path, live=False)
    finally:
        await monitor.take_back(SET_DEVICES)


def log_size(log_path: Path) -> int:
    """Return the size of a VMM's log in bytes; one that is not there has none."""
    return log_path.stat().st_size if log_path.exists() else 0


def last_error(log_path: Path, said_before: int = 0) -> str:
    """Return the last line that QEMU printed after so many bytes of its log, or that there is none."""
    try:
        lines = log_path.read_bytes()[said_before:].decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][-300:] if lines else "it printed nothing"
