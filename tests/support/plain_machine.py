"""A machine without microVMs: the second that stands behind `base.py`, for what the control plane does with one.

A microVM is a number of facts here: its application's memory is a dictionary, its saved state a copy of that. It holds
the same rules as the machine that we have (`rules.py`), and keeps the promises of `base.py`, also where a step fails:

    step(name) before a call has done anything, step(f"{name} is done") when it has done nearly all
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from emberbox.machine import rules
from emberbox.machine.base import (
    AgentLost,
    Command,
    End,
    Exited,
    Facts,
    GuestCommand,
    Keeper,
    Left,
    Plan,
    Started,
    SuspendFigures,
    VmmEnded,
)
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import GuestError, HostError, VmmError
from emberbox.model.usage import Usage

Memory = dict[str, int]
Step = Callable[[str], Awaitable[None]]


@dataclass(eq=False)
class FakeVmm:
    """A VMM: it outlives the server that started it."""

    memory: Memory
    ended: asyncio.Future[End] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    egress: EgressPolicy | None = None

    def tell(self, event: End) -> None:
        """Let it be seen that it, or what runs in it, has ended."""
        if not self.ended.done():
            self.ended.set_result(event)


@dataclass
class Disk:
    """What is on the machine's disk and in its process table: all that a server that is killed leaves.

    Attributes:
        images: what image versions start from, by image id and version.
        bases: what microVMs start from that have a base of their own.
        saved: the state of microVMs that are suspended.
        rollbacks: what microVMs are to go back to.
        vmms: those that run.
    """

    images: dict[tuple[str, str], Memory] = field(default_factory=dict)
    bases: dict[str, Memory] = field(default_factory=dict)
    saved: dict[str, Memory] = field(default_factory=dict)
    rollbacks: dict[str, Memory] = field(default_factory=dict)
    vmms: dict[str, FakeVmm] = field(default_factory=dict)

    def end_vmm(self, microvm_id: str) -> None:
        """End a microVM's VMM, if it has one."""
        vmm = self.vmms.pop(microvm_id, None)
        if vmm is not None:
            vmm.tell(VmmEnded("it was ended"))

    def forget(self, microvm_id: str) -> None:
        """Remove everything that a microVM has."""
        self.end_vmm(microvm_id)
        for kept in (self.bases, self.saved, self.rollbacks):
            kept.pop(microvm_id, None)


async def no_step(_name: str) -> None:
    """Take every step as it comes."""


class FakeMachine:
    """It, as `base.Machine`.

    Args:
        disk: what is there already.
        step: called at every step; what it raises makes the step fail.
        prepared: ids of microVMs that are prepared.
    """

    def __init__(self, disk: Disk, step: Step = no_step, prepared: Sequence[str] = ()) -> None:
        self.disk = disk
        self._step = step
        self._prepared = list(prepared)
        self.mine: dict[str, FakeVmm] = {}
        """The VMMs that it knows: those that it started or took over."""
        self.hooks: list[tuple[str, str]] = []
        """The hooks that were called, by the microVM's id and the hook's name."""

    def _find(self, call: str, microvm_id: str) -> FakeVmm:
        """Return the VMM for a call; one that is not used where the microVM must not run."""
        rules.check(call, microvm_id, runs=microvm_id in self.mine)
        return self.mine.get(microvm_id) or FakeVmm({})

    def take_prepared(self, image_id: str, version: str) -> str | None:
        """See `base.Machine`."""
        return self._prepared.pop() if self._prepared and (image_id, version) in self.disk.images else None

    async def launch(self, plan: Plan, keeper: Keeper) -> Started:
        """See `base.Machine`."""
        self._find("launch", plan.microvm_id)
        await self._step("launch")
        base = self.disk.bases.get(plan.microvm_id)
        if base is None and not plan.own_base:
            base = self.disk.images.get((plan.image_id, plan.version))
        if base is None:
            raise HostError("what it starts from is missing")
        return await self._start("launch", plan, base)

    async def _start(self, call: str, plan: Plan, memory: Memory) -> Started:
        assert plan.microvm_id not in self.disk.vmms, "a second VMM on one disk"
        vmm = FakeVmm(copy.copy(memory), egress=plan.egress)
        self.disk.vmms[plan.microvm_id] = self.mine[plan.microvm_id] = vmm
        try:
            await self._step(f"{call} is done")
        except BaseException:
            del self.disk.vmms[plan.microvm_id], self.mine[plan.microvm_id]
            raise
        return Started({})

    async def resume(self, plan: Plan, keeper: Keeper) -> Started:
        """See `base.Machine`."""
        self._find("resume", plan.microvm_id)
        await self._step("resume")
        if plan.microvm_id not in self.disk.saved:
            raise HostError("its saved state is missing")
        saved = self.disk.saved.pop(plan.microvm_id)
        try:
            return await self._start("resume", plan, saved)
        except BaseException:
            self.disk.saved[plan.microvm_id] = saved  # it has not run yet
            raise

    async def take_over(self, plan: Plan, keeper: Keeper, *, resumes: bool) -> Started | None:
        """See `base.Machine`."""
        self._find("take_over", plan.microvm_id)
        await self._step("take_over")
        vmm = self.disk.vmms.get(plan.microvm_id)
        if vmm is None:
            raise VmmError("its VMM does not run")
        while vmm.stalled.is_set():
            if not await keeper.wait_for_room():
                return None
            vmm.stalled.clear()
        self.mine[plan.microvm_id] = vmm
        return Started({})

    async def call_hook(self, microvm_id: str, name: str, payload: Mapping[str, str] | None = None) -> None:
        """See `base.Machine`."""
        self._find("call_hook", microvm_id)
        await self._step(f"{name} hook")
        self.hooks.append((microvm_id, name))

    async def suspend(self, microvm_id: str) -> SuspendFigures:
        """See `base.Machine`."""
        vmm = self._find("suspend", microvm_id)
        await self._step("suspend")
        self.disk.saved[microvm_id] = copy.copy(vmm.memory)
        await self._step("suspend is done")
        del self.mine[microvm_id]
        self.disk.end_vmm(microvm_id)
        return SuspendFigures(len(vmm.memory))

    async def end(self, microvm_id: str, left: Left) -> None:
        """See `base.Machine`."""
        self.mine.pop(microvm_id, None)
        if left is Left.ALL:
            return
        self.disk.end_vmm(microvm_id)
        if left is Left.NOTHING:
            self.disk.forget(microvm_id)
        await self._step("end")

    def look(self, microvm_id: str) -> Facts:
        """See `base.Machine`."""
        return Facts(microvm_id in self.disk.saved, microvm_id in self.mine)

    async def settle(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        self.disk.rollbacks.pop(microvm_id, None)

    async def restrict(self, microvm_id: str, egress: EgressPolicy) -> None:
        """See `base.Machine`."""
        vmm = self._find("restrict", microvm_id)
        await self._step("restrict")
        vmm.egress = egress

    async def wait_end(self, microvm_id: str) -> Exited | VmmEnded | AgentLost:
        """See `base.Machine`."""
        return await asyncio.shield(self._find("wait_end", microvm_id).ended)

    async def wait_stalled(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        await self._find("wait_stalled", microvm_id).stalled.wait()

    async def go_on(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        self._find("go_on", microvm_id).stalled.clear()

    async def reconnect(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        vmm = self._find("reconnect", microvm_id)
        await self._step("reconnect")
        vmm.ended = asyncio.get_running_loop().create_future()

    async def reach(self, microvm_id: str, port: int, *, anew: bool) -> tuple[str, int]:
        """See `base.Machine`."""
        self._find("reach", microvm_id)
        return "127.0.0.1", port

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        """See `base.Machine`."""
        self._find("open_command", microvm_id)
        raise GuestError("there is no guest to run it in")

    async def has_undelivered(self, microvm_id: str) -> bool:
        """See `base.Machine`."""
        return False

    def measure(self, microvm_id: str) -> Usage:
        """See `base.Machine`."""
        vmm = self.mine.get(microvm_id)
        return Usage(0 if vmm is None else len(vmm.memory), 0, 0, 0.0)


class FakeCheckpoints:
    """Its checkpoints, as `base.Checkpoints`.

    Args:
        machine: whose.
        step: as for the machine.
    """

    def __init__(self, machine: FakeMachine, step: Step = no_step) -> None:
        self._machine = machine
        self._disk = machine.disk
        self._step = step
        self._taken: dict[str, Memory] = {}

    async def take(self, plan: Plan, name: str) -> float:
        """See `base.Checkpoints`."""
        await self._step("take")
        vmm = self._disk.vmms.get(plan.microvm_id)
        self._taken[name] = copy.copy(self._disk.saved[plan.microvm_id] if vmm is None else vmm.memory)
        await self._step("take is done")
        return 0.0

    async def publish(self, name: str) -> None:
        """See `base.Checkpoints`."""
        assert name in self._taken
        await self._step("publish")

    async def keep(self, name: str, image_id: str, version: str) -> None:
        """See `base.Checkpoints`."""
        self._disk.images[image_id, version] = self._taken[name]

    async def give(self, name: str, microvm_ids: Sequence[str]) -> None:
        """See `base.Checkpoints`."""
        self._disk.bases.update((microvm_id, copy.copy(self._taken[name])) for microvm_id in microvm_ids)

    async def drop(self, name: str) -> None:
        """See `base.Checkpoints`."""
        self._taken.pop(name, None)

    async def prepare_rollback(self, microvm_id: str, image_id: str, version: str) -> None:
        """See `base.Checkpoints`."""
        await self._step("prepare_rollback")
        self._disk.rollbacks[microvm_id] = copy.copy(self._disk.images[image_id, version])

    async def roll_back(self, microvm_id: str) -> None:
        """See `base.Checkpoints`."""
        await self._machine.end(microvm_id, Left.FILES)
        self._disk.bases[microvm_id] = self._disk.rollbacks.pop(microvm_id)
        self._disk.saved[microvm_id] = copy.copy(self._disk.bases[microvm_id])
        await self._step("roll_back is done")


class FakeLeftovers:
    """What an earlier server left on it, as `base.Leftovers`.

    Args:
        disk: what is there.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def find(self, microvm_id: str, *, was_suspended: bool) -> Facts:
        """See `base.Leftovers`."""
        self._disk.rollbacks.pop(microvm_id, None)
        return Facts(microvm_id in self._disk.saved, microvm_id in self._disk.vmms)

    def clear(self, *, adopted: Iterable[str], kept: Iterable[str], relaunched: Iterable[str]) -> None:
        """See `base.Leftovers`."""
        goes_on, stays, starts = set(adopted), set(kept), set(relaunched)
        for microvm_id in self._disk.vmms.keys() - goes_on:
            self._disk.end_vmm(microvm_id)
        for microvm_id in (self._disk.saved.keys() | self._disk.bases.keys()) - goes_on - stays:
            self._disk.saved.pop(microvm_id, None)
            if microvm_id not in starts:
                self._disk.bases.pop(microvm_id, None)
