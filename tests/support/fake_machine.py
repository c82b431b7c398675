"""A machine without microVMs, below the real GuestHost: a VMM, an agent and a network that are objects of this process.

Memory, disks and saved state are real: a guest's memory is a private mapping of its snapshot in this very process, so
that pages are found, written and loaded by the code that does it for QEMU's. The rules of `vmm/base.py` are held: what
breaks one is an AssertionError, which nothing expects.

    Script ── counts every step that the machine, a thread or the database is asked for, in order; a test says at which
              one something happens: an error, a caller that goes away, a task that is cancelled
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from emberbox.guest.agent import OutputListener, StreamHandler
from emberbox.guest.protocol import Command, Identity
from emberbox.host.network.slots import DeviceKind
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import EmberboxError, GuestError, HostError, VmmError
from emberbox.process.adoption import AdoptedProcess, write_note
from emberbox.vmm.base import (
    AdoptPlan,
    BootPlan,
    Capabilities,
    HeldNetwork,
    MachineShape,
    Publish,
    RestorePlan,
    Saved,
    SavedStates,
    UserNetwork,
    Vm,
    VmFiles,
    VmUsage,
    Written,
)
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import saving
from emberbox.vmm.paged.files import stack_of
from emberbox.vmm.paged.memory import PAGE_BYTES
from emberbox.vmm.paged.saving import Mapping, PagedDraft, Started
from emberbox.vmm.paged.states import PagedStates
from support.snapshots import image_snapshot

SHAPE = MachineShape(1, 1)
CAPABILITIES = Capabilities(
    own_kernel=True,
    user_network=True,
    opens_ports=True,
    holds_networks=False,
    moves_clock=True,
    stalls=True,
    holds_writes=True,
    leads_to_loopback=True,
    device=DeviceKind.TAP,
)
ENGINE = Engine("none", "1.0", "tcg")
MEMORY_BYTES = SHAPE.mem_size_mib << 20
HOOK_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
FAULTS = {
    "vm": lambda: VmmError("the VMM does not answer"),
    "agent": lambda: GuestError("the guest does not answer"),
    "network": lambda: HostError("the network cannot be changed"),
    "store": lambda: HostError("the database cannot be used"),
    "thread": lambda: OSError(5, "Input/output error"),
    "machine": lambda: VmmError("the machine does not answer"),
}
"""What each part of the machine raises when it fails, by the first word of a step's name."""

NEVER_FAIL = ("thread.rmtree", "thread.remove_microvm", "store.find")
"""They ignore errors, or only read."""

Happening = Callable[[], None]


@dataclass
class Script:
    """The steps that were taken, by name, and what happens at some, by their number."""

    steps: list[str] = field(default_factory=list)
    happenings: dict[int, Happening] = field(default_factory=dict)

    def begin(self, happenings: dict[int, Happening] | None = None) -> None:
        """Count from here."""
        self.steps = []
        self.happenings = dict(happenings or {})

    def step(self, name: str) -> None:
        """Take a step; raises what the test wants."""
        number = len(self.steps)
        self.steps.append(name)
        happening = self.happenings.get(number)
        if happening is not None:
            happening()

    async def pause(self, name: str) -> None:
        """Take a step in which others come to their turn, as with anything that is waited for."""
        self.step(name)
        await asyncio.sleep(0)

    def fail(self) -> None:
        """Happen as a fault of the step that is taken."""
        name = self.steps[-1]
        if not name.startswith(NEVER_FAIL):
            make_fault = FAULTS[name.partition(".")[0]]
            raise make_fault()

    async def in_thread(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Stand in for `background.in_thread`: a step fails before the work, or when nearly all of it is done."""
        name = getattr(work, "__name__", type(work).__name__)
        await self.pause(f"thread.{name}")
        done = work(*args, **kwargs)
        await self.pause(f"thread.{name} is done")
        return done


@dataclass(eq=False)
class FakeVm(Vm):
    """A VMM. `memory` is its guest's; a frozen application is the guest's affair and outlives its connections.

    One of its processes always waits for a write, so it is not frozen while `holds_writes`.
    """

    machine: FakeMachine
    files: VmFiles
    memory: mmap.mmap
    started: Started
    runs: bool = False
    frozen: bool = True
    alive: bool = True
    holds_writes: bool = False
    stall: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def engine(self) -> Engine:
        return ENGINE

    @property
    def works(self) -> bool:
        """Whether the application runs."""
        return self.alive and self.runs and not self.frozen

    def put(self, page: int, byte: int) -> None:
        """Let the application fill a page of its memory."""
        assert self.works, "the application does not run"
        self.memory[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes([byte]) * PAGE_BYTES

    def get(self, page: int) -> int:
        """Return what a page is filled with."""
        content = set(self.memory[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
        assert len(content) == 1
        return content.pop()

    async def _take(self, name: str) -> None:
        if not self.alive:
            raise VmmError("the VMM has ended")
        await self.machine.script.pause(f"vm.{name}")

    async def pause(self) -> None:
        await self._take("pause")
        self.runs = False

    async def unpause(self) -> None:
        await self._take("unpause")
        self.runs = not self.machine.disk_is_full
        if self.runs:
            self.stall.clear()

    def meet_full_disk(self) -> None:
        """Stop the guest, as a VMM does whose write fails."""
        self.machine.disk_is_full, self.runs = True, False
        self.stall.set()

    async def is_stalled(self) -> bool:
        await self._take("is_stalled")
        return self.stall.is_set()

    async def wait_stalled(self) -> None:
        await self.stall.wait()

    async def hold_writes(self, *, held: bool) -> None:
        await self._take("hold_writes")
        self.holds_writes = held

    async def save(self, publish: Publish) -> Written:
        await self._save_devices()
        return cast(
            "Written",
            await self.machine.script.in_thread(
                saving.save_changes, self.files.directory, self.started, self._mapping(), ENGINE, publish
            ),
        )

    def forget_saved(self) -> None:
        saving.forget_changes(self.files.directory, self.started)

    async def draft(self, directory: Path) -> FakeDraft:
        await self._take("draft")
        return FakeDraft(self, saving.begin_draft(self.started, directory))

    async def capture(self, draft: PagedDraft) -> None:
        await self._save_devices()
        await self.machine.script.in_thread(draft.capture, self.files.directory, self._mapping(), ENGINE)

    async def _save_devices(self) -> None:
        assert not self.runs, "devices are saved while the guest stands still"
        await self._take("save_devices")
        (self.files.directory / "devices").write_bytes(b"devices")

    async def dial_agent(self) -> socket.socket:
        """Connect to nothing: `FakeAgent` is told whose it is by the connection."""
        connection = DialledAgent()
        connection.vm = self
        return connection

    async def reach(self, port: int) -> tuple[str, int]:
        raise NotImplementedError

    def hold_network(self) -> HeldNetwork:
        raise NotImplementedError

    def usage(self) -> VmUsage:
        return VmUsage(0, 0, 0.0)

    def cpu_seconds(self) -> float:
        return 0.0

    def write_note(self, path: Path, **more: str | int | None) -> None:
        write_note(path, os.getpid(), **more)

    def _mapping(self) -> Mapping:
        if not self.alive:
            raise VmmError("the VMM has ended")
        return Mapping(os.getpid(), ctypes.addressof(ctypes.c_char.from_buffer(self.memory)))

    def die(self, how: str = "QEMU was killed by SIGKILL") -> None:
        """End by itself."""
        self.alive = self.runs = False
        if not self.ended.done():
            self.ended.set_result(how)

    async def kill(self) -> None:
        self.die()  # what fails then is only what comes after it
        await self.machine.script.pause("vm.kill")

    async def wait_exited(self) -> str:
        return await asyncio.shield(self.ended)


@dataclass
class FakeDraft:
    """A base that is made of a guest."""

    vm: FakeVm
    pages: PagedDraft

    async def capture(self) -> None:
        await self.vm.capture(self.pages)

    async def store(self) -> Saved:
        return cast("Saved", await self.vm.machine.script.in_thread(self.pages.store))


class DialledAgent(socket.socket):
    """A connection to the agent of one VM."""

    vm: FakeVm


@dataclass
class HookStream:
    """A connection to the application's hooks, which answer 200."""

    machine: FakeMachine

    async def write(self, data: bytes) -> None:
        await self.machine.script.pause(f"agent.{data.split()[1].decode().rpartition('/')[2]} hook")

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return HOOK_ANSWER

    def close(self) -> None:
        pass


class FakeAgent:
    """A connection to the agent of one guest."""

    machine: FakeMachine
    spares_connections = True

    def __init__(self, vm: FakeVm) -> None:
        loop = asyncio.get_running_loop()
        self._vm = vm
        self._closed = False
        self.exited: asyncio.Future[int] = loop.create_future()
        self.lost: asyncio.Future[GuestError] = loop.create_future()

    @classmethod
    async def connect(cls, connection: DialledAgent, on_output: OutputListener, timeout_s: float) -> FakeAgent:
        vm = connection.vm
        connection.close()
        await cls.machine.script.pause("agent.connect")
        if not vm.runs:
            raise GuestError("the guest's agent did not answer")
        agent = cls(vm)
        cls.machine.agents.append(agent)
        return agent

    def is_connected(self) -> bool:
        return self._vm.alive and not self._closed and not self.lost.done()

    def lose(self, why: str = "the guest broke the protocol") -> None:
        """Let the connection end by itself."""
        self.lost.set_result(GuestError(why))

    def serve(self, handler: StreamHandler) -> None:
        pass

    def listen(self, on_output: OutputListener) -> None:
        pass

    async def _ask(self, name: str) -> None:
        if not self.is_connected() or not self._vm.runs:
            raise GuestError(f"the guest did not answer {name}")
        await self.machine.script.pause(f"agent.{name}")

    async def freeze(self, *, for_launches: bool = False, timeout_s: float = 10) -> None:
        await self._ask("freeze")
        if self._vm.holds_writes:
            raise GuestError("a process waits for its write and cannot be stopped")
        self._vm.frozen = True

    async def thaw(self, identity: Identity, timeout_s: float = 10) -> None:
        await self._ask("thaw")
        self._vm.frozen = False

    async def rehearse_thaw(self, identity: Identity, timeout_s: float = 10) -> None:
        await self._ask("rehearse_thaw")

    async def open_stream(self, port: int, timeout_s: float) -> HookStream:
        await self._ask("open_stream")
        assert self._vm.works, "a hook is called while the application runs"
        return HookStream(self.machine)

    async def open_command(self, command: Command, timeout_s: float = 10) -> object:
        await self._ask("open_command")
        return object()

    async def close(self) -> None:
        self._closed = True
        await asyncio.sleep(0)


@dataclass
class FakeConnection:
    """The network of one guest."""

    machine: FakeMachine
    slot_number: int | None = None
    names: None = None

    @contextlib.asynccontextmanager
    async def attach(self) -> AsyncIterator[UserNetwork]:
        yield UserNetwork()

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    async def restrict(self, policy: EgressPolicy) -> None:
        await self.machine.script.pause("network.restrict")

    def serve_metadata(self, serve: object) -> None:
        """The agent carries it."""

    async def cut(self) -> None:
        """Nobody is connected."""

    def keep(self) -> None:
        self.machine.connections.remove(self)

    def hold(self, vm: Vm) -> None:
        assert not vm.runs, "a connection is held while the guest stands still"  # type: ignore[attr-defined]

    def spared(self) -> None:
        return None

    async def release(self) -> None:
        self.machine.connections.remove(self)
        await self.machine.script.pause("network.release")


@dataclass
class FakeMachine:
    """Drives VMMs, and connects them: a `VmmDriver` and a `Connector`."""

    script: Script = field(default_factory=Script)
    vms: list[FakeVm] = field(default_factory=list)
    agents: list[FakeAgent] = field(default_factory=list)
    connections: list[FakeConnection] = field(default_factory=list)
    disk_is_full: bool = False

    def vm_in(self, directory: Path) -> FakeVm | None:
        """Return the VMM of a microVM, by its directory; there must never be two."""
        found = [vm for vm in self.vms if vm.alive and vm.files.directory == directory]
        assert len(found) < 2, "two VMMs run on one disk"
        return found[0] if found else None

    def agent_class(self) -> type[FakeAgent]:
        """Return what stands in for `Agent`."""
        return type("Agent", (FakeAgent,), {"machine": self})

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    states: ClassVar[SavedStates] = PagedStates()

    @property
    def engine(self) -> Engine:
        return ENGINE

    async def boot(self, plan: BootPlan) -> FakeVm:
        raise NotImplementedError

    async def restore(self, plan: RestorePlan) -> FakeVm:
        await self.script.pause("vm.restore")
        assert self.vm_in(plan.files.directory) is None, "a second VMM on one disk"
        with plan.base.path("memory").open("rb") as base:
            memory = mmap.mmap(
                base.fileno(), MEMORY_BYTES, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        for layer in stack_of(plan.base, plan.own):
            content = layer.path.read_bytes()
            for first, count in layer.runs:
                where = slice(first * PAGE_BYTES, (first + count) * PAGE_BYTES)
                memory[where] = content[where]
        vm = FakeVm(self, plan.files, memory, Started(plan.shape, plan.base, plan.own))
        self.vms.append(vm)
        return vm

    async def adopt(self, process: AdoptedProcess, plan: AdoptPlan) -> FakeVm:
        await self.script.pause("vm.adopt")
        found = self.vm_in(plan.files.directory)
        assert found is not None
        return found

    async def connect(self, microvm_id: str, device: DeviceKind) -> FakeConnection:
        await self.script.pause("network.connect")
        self.connections.append(FakeConnection(self))
        return self.connections[-1]

    def has_undelivered(self, microvm_id: str) -> bool:
        return False

    async def let_go(self, microvm_id: str) -> None:
        await self.script.pause("network.let_go")


def make_image(directory: Path) -> ImageSnapshot:
    """Make the snapshot of an image whose application has filled its first page."""
    directory.mkdir(parents=True)
    for name in ("root.erofs", "disk", "devices"):
        (directory / name).write_bytes(name.encode())
    (directory / "memory").write_bytes(b"\1" * PAGE_BYTES + bytes(MEMORY_BYTES - PAGE_BYTES))
    snapshot = image_snapshot(directory, SHAPE)
    snapshot.publish()
    return snapshot


async def given_up(waiting: Awaitable[object]) -> BaseException | None:
    """Wait for something; return what it raised, cancelled or not."""
    try:
        await waiting
    except AssertionError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        return error
    return None


def is_foreseen(error: BaseException | None) -> bool:
    """Say whether an error is one of those that a caller may meet."""
    return error is None or isinstance(error, EmberboxError | OSError | asyncio.CancelledError)
