"""What the owner of one microVM knows and has. Only its transitions change it, one at a time (`owner.py`)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

from emberbox.background import Background
from emberbox.control.microvms.deadlines import Deadlines
from emberbox.control.microvms.idle import IdleTimer
from emberbox.control.microvms.owner import Owner
from emberbox.control.microvms.row import MicrovmRow
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.stall import Stall
from emberbox.machine.base import Keeper, Left, Machine, Plan, Started
from emberbox.model.clock import Instant
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import HostError
from emberbox.model.hooks import RUNTIME_HOOKS
from emberbox.model.records import ImageVersion, Microvm
from emberbox.model.states import MicrovmState


@dataclass
class Life:
    """One microVM, as its owner sees it.

    Attributes:
        context: what all share.
        microvm: its row, as far as it never changes, and when it was suspended last.
        version: the image version that it runs.
        keeper: what its machine asks for.
        row: writes its row, and knows its state.
        stall: whether it stands still for want of room on the disk.
        owner: its line of messages.
        idle: counts the time that nothing crosses its endpoint.
        deadlines: its lifetime, and the time that it may be suspended.
        background: what is waited for beside the line: the watch over it, a row that cannot be written yet.
        incarnation: counts its starts; endpoints know a run of it by this.
        run: the incarnation that runs now; None while none does.
        ports: what is known of its ports: whether each spoke TLS.
        doubted: ports of which that may be wrong.
        explanation: why it stays suspended, as its row has it.
        losses: when its agent was lost lately.
        lacks_room: it could not be saved, as the disk is full.
        stops: the server stops; nothing is begun any more.
    """

    context: RunnerContext
    microvm: Microvm
    version: ImageVersion
    keeper: Keeper
    row: MicrovmRow
    stall: Stall
    owner: Owner
    idle: IdleTimer
    deadlines: Deadlines
    background: Background
    incarnation: int
    run: int | None = None
    ports: dict[int, bool] = field(default_factory=dict)
    doubted: set[int] = field(default_factory=set)
    explanation: str | None = None
    losses: list[float] = field(default_factory=list)
    lacks_room: bool = False
    stops: bool = False

    @property
    def id(self) -> str:
        """The microVM's id."""
        return self.microvm.id

    @property
    def machine(self) -> Machine:
        """What runs it."""
        return self.context.machine

    @property
    def resumes_itself(self) -> bool:
        """Whether a request at its endpoint resumes it."""
        return self.microvm.request.resumes_itself

    def find_egress(self) -> EgressPolicy | None:
        """Return what it may reach; None for public addresses.

        Raises:
            HostError: what its connector allows is not known any more.
        """
        return self.context.find_egress(self.microvm.account_id, self.microvm.request.egress)

    def plan(self, egress: EgressPolicy | None = None) -> Plan:
        """Return what its machine must know of it; to start it, also what it may reach."""
        hooks = (self.version.request.find_hook(name) for name in RUNTIME_HOOKS)
        return Plan(
            microvm_id=self.id,
            image_id=self.version.image_id,
            version=self.version.version,
            own_base=self.microvm.own_base,
            hooks=tuple(hook for hook in hooks if hook is not None),
            egress=egress,
        )

    def begin_run(self, started: Started) -> int:
        """Take note that it runs, and return its new incarnation."""
        self.incarnation += 1
        self.run = self.incarnation
        self.ports = dict(started.ports)
        self.doubted.clear()
        return self.run

    async def end_run(self, left: Left) -> None:
        """End its VMM, if it has one, or let go of it."""
        self.run = None
        await self.machine.end(self.id, left)

    def become_suspended(self) -> None:
        """Say that it is suspended from now on; its saved state is the truth."""
        self.idle.stop()
        self.microvm = replace(self.microvm, suspended=Instant.now())
        self.row.note(MicrovmState.SUSPENDED, suspended=self.microvm.suspended, own_base=self.microvm.own_base)
        self.deadlines.start_suspended(self.microvm)

    def stay_suspended(self) -> None:
        """Its saved state is the truth, whatever its row says."""
        if self.row.known is MicrovmState.SUSPENDED:
            self.deadlines.start_suspended(self.microvm)
        else:
            self.become_suspended()

    def explain(self, reason: str | None) -> None:
        """Say in its row why it stays suspended; None says that this is over."""
        if reason != self.explanation:
            with contextlib.suppress(HostError):  # the caller is told all the same
                self.row.explain(reason)
                self.explanation = reason
