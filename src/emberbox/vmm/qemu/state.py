"""Saving a guest of QEMU's: its devices by the monitor, its memory by what QEMU has mapped."""

from __future__ import annotations

import os
from pathlib import Path

from emberbox.background import in_thread
from emberbox.model.errors import VmmError
from emberbox.vmm.base import Publish, Saved, Written
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import saving
from emberbox.vmm.paged.files import DEVICES, MEMORY
from emberbox.vmm.paged.saving import Mapping, PagedDraft, Started
from emberbox.vmm.qemu.arguments import SET_DEVICES
from emberbox.vmm.qemu.monitor import Monitor


class QemuState:
    """What there is to save of one QEMU.

    Args:
        pid: its process.
        monitor: a connection to its monitor.
        engine: what it is.
        directory: the VM's.
        started: what lies under its memory; None after a boot, into a memory file of its own.
    """

    def __init__(self, pid: int, monitor: Monitor, engine: Engine, directory: Path, started: Started | None) -> None:
        self._pid = pid
        self._monitor = monitor
        self._engine = engine
        self._directory = directory
        self._started = started

    async def save(self, publish: Publish) -> Written:
        """Write the devices, and the pages that the guest has changed; after a boot the memory is a file already.

        The rest is one piece of work in a thread that is waited for, whatever happens: it reads QEMU's memory, so QEMU
        must not end before, and what has been written is published.
        """
        await self._save_devices()
        if self._started is None:
            return await in_thread(saving.save_boot, self._directory, self._engine, publish)
        return await in_thread(self._save_changes, self._started, publish)

    def _save_changes(self, started: Started, publish: Publish) -> Written:
        return saving.save_changes(self._directory, started, self._find_mapping(started), self._engine, publish)

    def forget(self) -> None:
        """Remove what `save` has written: the layer may be large, and the disk full."""
        if self._started is not None:
            saving.forget_changes(self._directory, self._started)

    async def draft(self, directory: Path) -> QemuDraft:
        """Begin to make a base; QEMU runs on.

        Raises:
            VmmError: the guest was booted, and is saved as a whole.
            OSError: the file system cannot do it.
        """
        if self._started is None:
            raise VmmError("a guest that was booted is saved as a whole")
        return QemuDraft(self, await in_thread(saving.begin_draft, self._started, directory))

    async def capture(self, draft: PagedDraft) -> None:
        """Take the state of a guest that stands still into a draft."""
        assert self._started is not None
        await self._save_devices()
        await in_thread(self._capture, draft, self._started)  # waited for, as above

    def _capture(self, draft: PagedDraft, started: Started) -> None:
        draft.capture(self._directory, self._find_mapping(started), self._engine)

    def changed_bytes(self) -> int:
        """Return how much memory the guest has changed since it was restored.

        Raises:
            OSError, VmmError: QEMU has ended.
        """
        return 0 if self._started is None else saving.changed_bytes(self._started, self._find_mapping(self._started))

    async def _save_devices(self) -> None:
        if await self._monitor.status() == "running":
            raise VmmError("a guest is saved while it stands still")
        await save_devices(self._monitor, self._directory / DEVICES)

    def _find_mapping(self, started: Started) -> Mapping:
        """Return where the guest's memory begins in QEMU's address space, from /proc/<pid>/maps."""
        inode = started.base.path(MEMORY).stat().st_ino
        with Path(f"/proc/{self._pid}/maps").open() as maps:
            for line in maps:
                addresses, _, offset, _, number, *_ = line.split(maxsplit=5)
                if int(number) == inode:
                    return Mapping(self._pid, int(addresses.split("-")[0], 16) - int(offset, 16))
        raise VmmError("the guest's memory is not mapped")


class QemuDraft:
    """A base that is made of a guest of QEMU's; made by `QemuState.draft`."""

    def __init__(self, state: QemuState, pages: PagedDraft) -> None:
        self._state = state
        self._pages = pages

    async def capture(self) -> None:
        """Take devices, disk and changed pages, while QEMU stands still."""
        await self._state.capture(self._pages)

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
