"""One running QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

from emberbox import process
from emberbox.host import usage
from emberbox.host.ports import free_port
from emberbox.model.errors import VmmError
from emberbox.process.adoption import write_note
from emberbox.process.watched import WatchedProcess
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Publish, VmFiles, VmUsage, Written
from emberbox.vmm.channel import dial_unix
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged.saving import Started
from emberbox.vmm.qemu.arguments import DISK_DEVICE
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.state import QemuDraft, QemuState
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
        self._state = QemuState(child.pid, monitor, engine, files.directory, started)
        self._log_path = log_path
        self._said_before = said_before
        self._forwarded: dict[int, int] = {}

    async def wait_restored(self) -> None:
        """Wait until the saved state has been loaded."""
        deadline = time.monotonic() + RESTORE_TIMEOUT_S
        while (await self._monitor.execute("query-status"))[
            "status"
        ] == "inmigrate":  # it answers nothing while it loads
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
        return await self._monitor.status() == "io-error"

    async def wait_stalled(self) -> None:
        """Wait until QEMU stops the guest by itself; the request waits in the device, also when that is saved."""
        with self._monitor.stops() as stops:
            while not await self.is_stalled():
                await stops.get()

    async def hold_writes(self, *, held: bool) -> None:
        """Limit the disk to a byte a second: one more request passes, then none for days. No limit lets all go on."""
        rates = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
        await self._monitor.execute("block_set_io_throttle", id=DISK_DEVICE, bps_wr=int(held), **rates)

    async def save(self, publish: Publish) -> Written:
        """Write devices and changed pages."""
        return await self._state.save(publish)

    def forget_saved(self) -> None:
        """Remove the pages."""
        self._state.forget()

    async def draft(self, directory: Path) -> QemuDraft:
        """Begin to make a base of it."""
        return await self._state.draft(directory)

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
        return VmUsage(usage.resident_bytes(pid), self._state.changed_bytes(), usage.cpu_seconds(pid))

    def cpu_seconds(self) -> float:
        """Look into /proc."""
        return usage.cpu_seconds(self._child.pid)

    def write_note(self, path: Path, **more: str | int | None) -> None:
        """Note the process: the cage's commands have become QEMU by exec."""
        write_note(path, self._child.pid, **more)

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
