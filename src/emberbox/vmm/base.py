"""What an engine must offer, and the plain data that it is asked with.

An engine starts guests, saves them into files, and starts them again from these. What its saved state consists of is
known to nobody else: those above see files with names (`Saved`), which they link, move, check and measure.

Order rules, which every engine holds and whose breach is an error, never a guest with wrong state:

    boot    ─► runs ─pause─► stands still ─save─► stands still, saved ─kill─► ended
    restore ─► stands still ─unpause─► runs        └─────unpause─────► runs on: what was saved counts for nothing

`save`, `Draft.capture` and `hold_network` are called on a `Vm` that stands still. `kill` may be called at any time and
more than once; afterwards only `wait_exited` is allowed, and anything else is an error. docs/adding-an-engine.md is the
way through.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from emberbox.host.network.slots import DeviceKind
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.engine import Engine

DISK = "disk"
"""The writable disk of a guest with a kernel, in its directory: an empty file system is there before the boot."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What not every engine can do. Those above ask this, and never which engine it is.

    Attributes:
        own_kernel: it boots a kernel of the guest's own (`KernelBoot`); others start from a directory (`RootBoot`).
        user_network: it can connect a guest by itself (`UserNetwork`); others need a `Wire`.
        opens_ports: in a `UserNetwork` it leads to the guest's ports (`Vm.reach`); to those of others leads the agent.
        holds_networks: what is sent to a guest that is suspended can be kept for it (`Vm.hold_network`).
        moves_clock: a guest's monotonic clock goes on by the time that it was suspended.
        stalls: a guest that meets a full disk of the host's is stopped, loses nothing and can go on; others show the
            guest an error.
        holds_writes: the disk writes of a guest can be held up.
        leads_to_loopback: what comes by a `Wire` for 127.0.0.1 reaches what is open there; of others the guest's own
            address is asked for.
        device: what a `Wire` opens for it.
    """

    own_kernel: bool
    user_network: bool
    opens_ports: bool
    holds_networks: bool
    moves_clock: bool
    stalls: bool
    holds_writes: bool
    leads_to_loopback: bool
    device: DeviceKind


@dataclass(frozen=True, slots=True)
class MachineShape:
    """What the guest sees of its machine; the same at boot and at every launch from the snapshot."""

    vcpu_count: int
    mem_size_mib: int


class HeldNetwork(Protocol):
    """The guest's end of a network, kept over the end of its VM with what is sent meanwhile."""

    def close(self) -> None:
        """Let go of it; repeats are harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Wire:
    """A network that the host has made for one guest. An engine takes of it what it needs.

    Args:
        namespace: the network namespace, as a file to enter it by.
        device: the name of the guest's device there.
        open_device: opens the device: a tap, or a packet socket, as `Capabilities.device` says; the descriptor is the
            caller's to close.
        held: what `hold_network` of the guest's VM before has returned, to be used in its place; None at first.
    """

    namespace: Path
    device: str
    open_device: Callable[[], Awaitable[int]]
    held: HeldNetwork | None


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """The engine's own network, closed towards the host and the outside but for what `Vm.reach` opens, if it does."""


Network = Wire | UserNetwork


@dataclass(frozen=True, slots=True)
class Cage:
    """What an engine's process is held in.

    Args:
        uid: the user and group it runs as; None keeps the caller's (no privilege to change it).
        network_namespace: a namespace that holds no way out; None when there is none.
    """

    uid: int | None
    network_namespace: Path | None


@dataclass(frozen=True, slots=True)
class VmFiles:
    """Where a VM has its files.

    Args:
        directory: its own. The engine puts there what it writes, and its log `vmm.log`, which also says whose process
            it is (process/adoption.py).
        root: the image's root file system, read-only and shared.
    """

    directory: Path
    root: Path


@dataclass(frozen=True, slots=True)
class KernelBoot:
    """The start of a guest with a kernel of its own; the agent is in the initramfs, and the disk is there already.

    Args:
        kernel_image: the kernel.
        initramfs: its first root file system.
        console: a new file for what the kernel prints.
    """

    kernel_image: Path
    initramfs: Path
    console: Path


@dataclass(frozen=True, slots=True)
class RootBoot:
    """The start of a guest without a kernel of its own: its root file system, and the agent as its first process.

    Args:
        agent: the agent's program, on the host.
    """

    agent: Path


@dataclass(frozen=True, slots=True)
class BootPlan:
    """A cold start."""

    shape: MachineShape
    files: VmFiles
    cage: Cage
    network: Network
    boot: KernelBoot | RootBoot


@dataclass(frozen=True, slots=True)
class Saved:
    """A guest's state in files, whose meaning only the engine knows that saved it.

    Two kinds exist. A *base* is complete: what a boot or a `Draft` has saved, and what new guests start from. What
    `Vm.save` of a guest adds to the base that it was started from is its *own*, and is of use with this base only.

    Args:
        directory: where the files are.
        names: theirs. Those that begin with `memory` count as memory, `disk` as the disk, others as neither.
        details: what the engine has to know of them, such as which pages count: plain data, stored beside them.
        engine: what saved it; None in what earlier releases saved.
    """

    directory: Path
    names: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON of the engine's own
    engine: Engine | None = None

    def path(self, name: str) -> Path:
        """Return where one of the files is."""
        return self.directory / name


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """A start from saved state, whose files are not changed by it.

    Args:
        shape: as it was saved.
        files: the VM's; its directory was laid out (`SavedStates.lay_out`), or has `own`.
        cage: what the engine's process is held in.
        network: the guest's.
        base: what the guest starts from.
        own: what it was suspended as; None at a launch.
        stood_still_s: seconds by which the guest's monotonic clock is to be moved on, where the engine can.
    """

    shape: MachineShape
    files: VmFiles
    cage: Cage
    network: Network
    base: Saved
    own: Saved | None
    stood_still_s: float


@dataclass(frozen=True, slots=True)
class AdoptPlan:
    """What a VM was started with by an earlier server; `own` is what it was resumed from, None after a launch."""

    shape: MachineShape
    files: VmFiles
    base: Saved
    own: Saved | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a save has made; `memory_bytes` is how much memory it had to write."""

    saved: Saved
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class VmUsage:
    """What a VM costs the machine.

    Attributes:
        memory_bytes: of its processes, with their share of what they have in common with others.
        changed_bytes: guest memory changed since the start.
        cpu_s: processor time since the start.
    """

    memory_bytes: int
    changed_bytes: int
    cpu_s: float


Publish = Callable[[Saved], None]
"""Makes saved state count."""


class Draft(Protocol):
    """A base that is made of a running guest: what can be done before and after it stands still is not done then."""

    async def capture(self) -> None:
        """Take the guest's state, while it stands still; nothing is waited for to be stored.

        Raises:
            OSError, VmmError: it cannot be; the guest is as it was.
        """
        ...

    async def store(self) -> Saved:
        """Write what was captured; the guest may run. The caller syncs the files.

        Raises:
            OSError: the disk is full.
        """
        ...


class Vm(Protocol):
    """One guest that was started, and the processes that run it."""

    @property
    def engine(self) -> Engine:
        """What its saved state will be of."""
        ...

    async def pause(self) -> None:
        """Let the guest stand still; its memory stays. All that it has written has reached its files."""
        ...

    async def unpause(self) -> None:
        """Let the guest run."""
        ...

    async def save(self, publish: Publish) -> Written:
        """Write its state into its directory: a base after a boot, its own after a restore.

        It can be let run on afterwards, whether that has failed or not. Whoever waits may be cancelled; what has been
        written is then published all the same, and nothing of this is under way any more when the wait ends.

        Args:
            publish: called with what was written, in a thread: it syncs the files, and makes the state count.

        Raises:
            OSError, VmmError: it cannot be saved, or was not published.
        """
        ...

    def forget_saved(self) -> None:
        """Remove what `save` has written, or begun to, and nobody needs: it does not count, and the guest runs on."""
        ...

    async def draft(self, directory: Path) -> Draft:
        """Begin to make a base of it in a directory on the same file system; it may run.

        Raises:
            OSError: the file system cannot do it.
        """
        ...

    async def dial_agent(self) -> socket.socket:
        """Return a new connection to the guest's agent, a stream socket that is the caller's; it ends an earlier one.

        Raises:
            GuestError: nothing answers.
        """
        ...

    async def reach(self, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of a guest in a `UserNetwork`, if it `opens_ports`.

        Raises:
            VmmError: no way can be opened.
        """
        ...

    def hold_network(self) -> HeldNetwork:
        """Keep its `Wire` open for the VM that is restored next.

        Raises:
            HostError: it cannot be kept.
        """
        ...

    def usage(self) -> VmUsage:
        """Return what it costs now; takes some milliseconds.

        Raises:
            OSError, VmmError: it has ended.
        """
        ...

    def cpu_seconds(self) -> float:
        """Return the processor time alone, at once.

        Raises:
            OSError, VmmError: it has ended.
        """
        ...

    async def is_stalled(self) -> bool:
        """Say whether the engine has stopped the guest by itself: it writes, and the host's disk is full."""
        ...

    async def wait_stalled(self) -> None:
        """Wait until it does so. `unpause` then writes what could not be written; nothing of it is lost."""
        ...

    async def hold_writes(self, *, held: bool) -> None:
        """Let the guest's disk writes wait, or go on; what it reads and computes is not affected."""
        ...

    def write_note(self, path: Path, **more: str | int | None) -> None:
        """Write at once by what the next server finds it (process/adoption.py), and what the caller wants noted.

        Raises:
            OSError: the disk is full, or it has ended.
        """
        ...

    async def kill(self) -> None:
        """End it at once and let go of all it has but its files."""
        ...

    async def wait_exited(self) -> str:
        """Wait until it has ended; return in words how, with its last error line."""
        ...


class SavedStates(Protocol):
    """What an engine does with saved state without a VM. All of it waits for the disk: call it in a thread."""

    def lay_out(self, base: Saved, directory: Path) -> None:
        """Put into a new VM's directory what it needs of its own before it is restored from a base.

        Raises:
            OSError: the disk is full.
        """
        ...

    def rewind(self, base: Saved, directory: Path) -> Saved:
        """Put into a directory what a VM would have saved that stands where its base does; return it.

        Raises:
            OSError: the disk is full.
        """
        ...

    def combine(self, base: Saved, own: Saved, directory: Path) -> Saved:
        """Make, in a directory on the same file system, a base of what a suspended VM has; it needs no other files.

        Raises:
            OSError: the disk is full.
        """
        ...

    def compact(self, base: Saved) -> Saved:
        """Bound what a start from a base costs, before it is published; return what it is then.

        Raises:
            OSError: the disk is full.
        """
        ...


class VmmDriver(Protocol):
    """One engine."""

    @property
    def engine(self) -> Engine:
        """What new VMs run with."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do beside what every engine can."""
        ...

    @property
    def states(self) -> SavedStates:
        """What it does with saved state."""
        ...

    async def boot(self, plan: BootPlan) -> Vm:
        """Start a guest afresh; it runs."""
        ...

    async def restore(self, plan: RestorePlan) -> Vm:
        """Start a guest from saved state; it stands still.

        The caller has made sure that this engine can load the state (`Engine.obstacle`).
        """
        ...

    async def adopt(self, process: AdoptedProcess, plan: AdoptPlan) -> Vm:
        """Take over a VM that another server started; it runs or stands still, as that server left it.

        Raises:
            VmmError: it does not answer; the caller ends the process.
        """
        ...
