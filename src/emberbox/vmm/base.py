"""What a VMM must offer, and the plain data that it is asked with.

Order rules: a `Vm` from `boot` runs; one from `restore` is paused until `unpause`. `save_devices` is called on a
paused `Vm` only. `kill` may be called at any time and more than once; afterwards only `wait_exited` is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.engine import Engine


@dataclass(frozen=True, slots=True)
class MachineShape:
    """What the guest sees of its machine; the same at boot and at every launch from the snapshot."""

    vcpu_count: int
    mem_size_mib: int


@dataclass(frozen=True, slots=True)
class Tap:
    """Network through an open tap device; the descriptor stays the caller's."""

    fd: int


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """The VMM's own user-mode network, closed towards the host and the outside.

    Args:
        forwards: pairs of a port on the host's 127.0.0.1 and the guest's port behind it.
    """

    forwards: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Cage:
    """What a VMM process is held in.

    Args:
        uid: the user and group it runs as; None keeps the caller's (no privilege to change it).
        network_namespace: a namespace that holds no way out; None when there is none.
    """

    uid: int | None
    network_namespace: Path | None


@dataclass(frozen=True, slots=True)
class VmFiles:
    """The files that a VM works on. The VMM gets open descriptors of them, never the right to open a path.

    Args:
        directory: for sockets and the VMM's own log.
        root: the image's root file system, read-only and shared.
        disk: the VM's own writable disk.
        devices: written by `save_devices`; a new file.
    """

    directory: Path
    root: Path
    disk: Path
    devices: Path


@dataclass(frozen=True, slots=True)
class BootPlan:
    """A cold boot into a new memory file."""

    shape: MachineShape
    files: VmFiles
    cage: Cage
    network: Tap | UserNetwork
    kernel_image: Path
    initramfs: Path
    memory: Path
    console: Path


@dataclass(frozen=True, slots=True)
class MemoryLayer:
    """Pages that lie over the base memory.

    Args:
        path: a sparse file as large as the memory, each page at its own offset.
        runs: (first page, count) of the pages that count.
    """

    path: Path
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """A copy-on-write start from saved memory and devices. None of the saved files can be written by the VMM.

    Args:
        stood_still_s: seconds by which the guest's monotonic clock is to be moved on.
    """

    shape: MachineShape
    files: VmFiles
    cage: Cage
    network: Tap | UserNetwork
    saved_devices: Path
    memory_base: Path
    memory_layers: tuple[MemoryLayer, ...] = ()
    stood_still_s: float = 0.0


class Vm(Protocol):
    """One running VMM process."""

    @property
    def pid(self) -> int:
        """The VMM's process id."""
        ...

    @property
    def engine(self) -> Engine:
        """What its saved state will be of."""
        ...

    @property
    def agent_socket(self) -> Path:
        """The Unix socket behind which the guest's agent is."""
        ...

    async def pause(self) -> None:
        """Stop the virtual processors; memory stays. All disk writes have reached the file."""
        ...

    async def unpause(self) -> None:
        """Let the virtual processors run."""
        ...

    async def save_devices(self) -> None:
        """Write the state of all devices to `VmFiles.devices`."""
        ...

    async def is_stalled(self) -> bool:
        """Say whether the VMM has stopped the guest by itself: its disk could not be written, as the host's is full."""
        ...

    async def wait_stalled(self) -> None:
        """Wait until it does so. `unpause` then writes what could not be written; nothing of it is lost."""
        ...

    async def hold_writes(self, *, held: bool) -> None:
        """Let the guest's disk writes wait, or go on; what it reads and computes is not affected."""
        ...

    async def forward(self, host_port: int, guest_port: int) -> None:
        """Open a way from a port on the host's 127.0.0.1 (user network only)."""
        ...

    def memory_address(self) -> int:
        """Return where the guest's memory begins in the VMM's address space."""
        ...

    async def kill(self) -> None:
        """End the process at once and let go of its sockets."""
        ...

    async def wait_exited(self) -> str:
        """Wait until the process has ended; return in words how, with its last error line."""
        ...


class VmmDriver(Protocol):
    """One kind of VMM."""

    @property
    def engine(self) -> Engine:
        """What new VMs run with."""
        ...

    async def boot(self, plan: BootPlan) -> Vm:
        """Start a VM from its kernel."""
        ...

    async def restore(self, plan: RestorePlan) -> Vm:
        """Start a VM from saved state, paused."""
        ...

    async def adopt(self, vmm: AdoptedProcess, files: VmFiles, memory_base: Path) -> Vm:
        """Take over a VM that another server started; it runs or is paused, as that server left it."""
        ...
