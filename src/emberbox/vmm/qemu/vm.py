"""One running QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from emberbox import process
from emberbox.model.errors import VmmError
from emberbox.process.watched import WatchedProcess
from emberbox.time_limits import limit_s
from emberbox.vmm.base import VmFiles
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu.arguments import DISK_DEVICE, SET_DEVICES
from emberbox.vmm.qemu.monitor import Monitor

RESTORE_TIMEOUT_S = limit_s(60.0)
_POLL_S = 0.002


class QemuVm:
    """A QEMU process of ours; see `emberbox.vmm.base.Vm` for the order rules.

    Args:
        child: the process.
        monitor: a connection to its monitor.
        engine: what it is.
        files: what it works on.
        memory: the file at the bottom of its memory.
        log_path: where it writes its errors.
        said_before: how many bytes of that file cannot be about its end.
    """

    def __init__(
        self,
        child: WatchedProcess,
        monitor: Monitor,
        engine: Engine,
        files: VmFiles,
        memory: Path,
        log_path: Path,
        said_before: int,
    ) -> None:
        self._child = child
        self._monitor = monitor
        self.engine = engine
        """What its saved state will be of."""
        self._files = files
        self._memory = memory
        self._log_path = log_path
        self._said_before = said_before

    @property
    def pid(self) -> int:
        """The process id of QEMU: the cage's commands have become it by exec."""
        return self._child.pid

    @property
    def agent_socket(self) -> Path:
        """The Unix socket behind which the guest's agent is."""
        return self._files.directory / "agent.sock"

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

    async def save_devices(self) -> None:
        """Write the state of all devices to `VmFiles.devices`."""
        await save_devices(self._monitor, self._files.devices)

    async def forward(self, host_port: int, guest_port: int) -> None:
        """Open a way from a port on the host's 127.0.0.1 (user network only)."""
        command = f"hostfwd_add net tcp:127.0.0.1:{host_port}-127.0.0.1:{guest_port}"
        answer = await self._monitor.execute("human-monitor-command", **{"command-line": command})
        if answer.strip():
            raise VmmError(f"QEMU could not forward a port: {answer.strip()}")

    def memory_address(self) -> int:
        """Return where the guest's memory begins in QEMU's address space, from /proc/<pid>/maps."""
        inode = self._memory.stat().st_ino
        with Path(f"/proc/{self.pid}/maps").open() as maps:
            for line in maps:
                addresses, _, offset, _, number, *_ = line.split(maxsplit=5)
                if int(number) == inode:
                    return int(addresses.split("-")[0], 16) - int(offset, 16)
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
