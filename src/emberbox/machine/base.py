"""A machine that runs microVMs, as the control plane sees it: ids and plain values in, events out.

    Leftovers    what an earlier server left: asked once, before anything is started
    Machine      one microVM's life: start, hooks, suspend, end; its ports, its commands, what it costs
    Checkpoints  snapshots of it at one instant, what comes of them, and going back to one
    Snapshots    those of image versions: what microVMs are launched from
    Prepared     microVMs that are started before anybody launches them
    Engines      what runs them, where an image may choose

No path, process id, page or file format passes this wall, and nothing of the agent's; each call could be a message to
a machine elsewhere (docs/decisions/0028). `local` is the one that we have; the tests have one without
microVMs. What may be called when is the table in `rules.py`, which both hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from emberbox.guest.protocol import Command
from emberbox.guest.streams import GuestCommand
from emberbox.model.egress import EgressPolicy
from emberbox.model.engines import EngineReport
from emberbox.model.errors import HostError
from emberbox.model.hooks import Hook
from emberbox.model.iam.access import TemporaryCredentials
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.usage import Usage

__all__ = [
    "AgentLost",
    "Checkpoints",
    "Command",
    "End",
    "Engines",
    "Exited",
    "Facts",
    "GuestCommand",
    "Keeper",
    "Left",
    "Leftovers",
    "LineLog",
    "Machine",
    "NoRoomError",
    "Plan",
    "Prepared",
    "Room",
    "Snapshots",
    "Started",
    "SuspendFigures",
    "VmmEnded",
]


class NoRoomError(HostError):
    """Something could not be stored, as the host's disk is full."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a machine must know to start a microVM.

    Attributes:
        microvm_id: whose.
        image_id: what it starts from, with `version`.
        own_base: it starts from a snapshot of its own; where that is missing, it is not started from its image.
        hooks: those that its image has enabled.
        egress: what it may reach; None for public addresses.
    """

    microvm_id: str
    image_id: str
    version: str
    own_base: bool = False
    hooks: tuple[Hook, ...] = ()
    egress: EgressPolicy | None = None


class LineLog(Protocol):
    """Takes the lines that an application writes."""

    async def wait_for_room(self) -> None:
        """Wait while there are too many that are not stored yet; the application waits, too."""
        ...

    def write_all(self, lines: Sequence[str]) -> None:
        """Add lines; waits for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Keeper:
    """What a machine asks for while it has a microVM.

    Attributes:
        log: where its application's output goes; None drops it.
        credentials: returns those of its role when the guest wants them; None where it has none.
        wait_for_room: called when its VMM could not write, as the disk is full, and it is being taken over. True lets
            the VMM try again; False lets it stand, for the next server; where it raises GuestError the VMM is ended.
    """

    log: LineLog | None
    credentials: Callable[[], TemporaryCredentials | None]
    wait_for_room: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Started:
    """A microVM that runs: the ports where something listened when its image was built, and whether that spoke TLS."""

    ports: Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class Exited:
    """Event: the application has ended by itself."""

    code: int


@dataclass(frozen=True, slots=True)
class VmmEnded:
    """Event: the VMM has ended, by itself or as it was told to; in words how."""

    how: str


@dataclass(frozen=True, slots=True)
class AgentLost:
    """Event: the guest runs, but its agent cannot be spoken to; `reconnect` looks for it."""

    why: str


End = Exited | VmmEnded | AgentLost


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is of a microVM.

    Attributes:
        is_saved: its saved state is complete and the truth: it has not run since.
        runs: it has a VMM.
        problem: why what is saved could not be resumed here, as far as that is known before it is tried.
    """

    is_saved: bool
    runs: bool
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SuspendFigures:
    """What a suspend cost: bytes of memory written."""

    memory_bytes: int


class Left(StrEnum):
    """What the end of a microVM leaves."""

    NOTHING = "nothing"  # no VMM, no files, no connections
    FILES = "files"  # no VMM; its saved state, and the connections that are held for it
    ALL = "all"  # what there is, without this server: a VMM runs on; connections that are held are reset


class Room(Protocol):
    """The room on a machine's disk."""

    @property
    def is_full(self) -> bool:
        """Whether writes of guests and builds are held up."""
        ...

    def explain(self) -> str:
        """Say how much is free and what to do."""
        ...

    def check(self, what: str) -> None:
        """Refuse something new, which `what` begins the sentence about.

        Raises:
            CapacityError: there is little room.
        """
        ...

    async def wait_until(self, *, full: bool) -> None:
        """Wait until it is full, or no longer is."""
        ...


class Leftovers(Protocol):
    """What an earlier server left on the machine."""

    def find(self, microvm_id: str, *, was_suspended: bool) -> Facts:
        """Say what there is of a microVM, and put in order what was half done to its files.

        Args:
            microvm_id: which.
            was_suspended: its row says so: a resume that has not written to its disk is taken back.
        """
        ...

    def clear(self, *, adopted: Iterable[str], kept: Iterable[str], relaunched: Iterable[str]) -> None:
        """End and remove what belongs to nobody.

        Args:
            adopted: their VMMs go on, and are taken over.
            kept: their files stay, their VMMs end.
            relaunched: only what they start from stays.
        """
        ...


class Machine(Protocol):
    """Runs microVMs. Calls about one microVM come one at a time from its owner, but for those that only look."""

    def take_prepared(self, image_id: str, version: str) -> str | None:
        """Return the id of a microVM that is started but for its identity, the caller's from now on; None without.

        `launch` with that id goes on from there; `end` gives it up.
        """
        ...

    async def launch(self, plan: Plan, keeper: Keeper) -> Started:
        """Start a new microVM from what it starts from.

        Raises:
            VmmError, GuestError, HostError, OSError: it could not be started; nothing of it runs.
        """
        ...

    async def resume(self, plan: Plan, keeper: Keeper) -> Started:
        """Start a suspended microVM where it was.

        Raises:
            VmmError, GuestError, HostError, OSError: it could not be started; `look` says whether its saved state is
                untouched, as it is unless the guest stopped answering after it had begun to run.
        """
        ...

    async def take_over(self, plan: Plan, keeper: Keeper, *, resumes: bool) -> Started | None:
        """Go on with a VMM that an earlier server started; what that had stopped it for is undone.

        Args:
            plan: what it was started by.
            keeper: who keeps it now.
            resumes: a resume was under way.

        Returns:
            None when it stands still and was let stand; its VMM runs on, for the next server.

        Raises:
            VmmError, GuestError, HostError, OSError: it cannot be taken over; it is ended.
        """
        ...

    async def call_hook(self, microvm_id: str, name: str, payload: Mapping[str, str] | None = None) -> None:
        """Call a lifecycle hook of the application, where its image has it enabled.

        A guest that stands still for want of room cannot be called: then its /suspend has not failed.

        Raises:
            HookFailedError: its answer was not 200, or did not come in time.
        """
        ...

    async def suspend(self, microvm_id: str) -> SuspendFigures:
        """Save a microVM and end its VMM. When that fails it runs on as if nothing had happened.

        Raises:
            NoRoomError: there is no room to save it.
            VmmError, GuestError, HostError, OSError: it could not be saved. Where `look` says that it is, only what
                comes after the saving has failed.
        """
        ...

    async def end(self, microvm_id: str, left: Left) -> None:
        """End a microVM in whatever state it is; what cannot be freed keeps nothing else from being freed.

        Raises:
            Exception: not all could be freed.
        """
        ...

    def look(self, microvm_id: str) -> Facts:
        """Say what there is of a microVM; takes some microseconds, and changes nothing."""
        ...

    async def settle(self, microvm_id: str) -> None:
        """Finish or undo what was half done to a microVM's files."""
        ...

    async def restrict(self, microvm_id: str, egress: EgressPolicy) -> None:
        """Let it reach what a policy says and nothing else, at once.

        Raises:
            HostError: that cannot be set; what was set before still counts.
        """
        ...

    async def wait_end(self, microvm_id: str) -> End:
        """Wait for what ends a microVM that runs, or makes it one that nobody can speak to.

        Raises:
            VmmError: it does not run.
        """
        ...

    async def wait_stalled(self, microvm_id: str) -> None:
        """Wait until its VMM stops it because the host's disk is full.

        Raises:
            VmmError: it does not run, or has ended.
        """
        ...

    async def go_on(self, microvm_id: str) -> None:
        """Let it go on where its VMM has stopped it for that, if it has; what it had not written is written now.

        Raises:
            VmmError: it does not run, or has ended.
        """
        ...

    async def reconnect(self, microvm_id: str) -> None:
        """Find its agent again; undo whatever the guest was stopped for.

        Raises:
            VmmError, GuestError: it does not answer.
        """
        ...

    async def reach(self, microvm_id: str, port: int, *, anew: bool) -> tuple[str, int]:
        """Return address and port at which the gateway reaches a port of the guest.

        Args:
            microvm_id: whose.
            port: which.
            anew: what is known of the port may be wrong: a connection to it has failed.

        Raises:
            VmmError: it does not run.
        """
        ...

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        """Start a command in the application's container.

        Raises:
            GuestError: it cannot be started.
            VmmError: the microVM does not run.
        """
        ...

    async def has_undelivered(self, microvm_id: str) -> bool:
        """Say whether a client has sent something to a suspended microVM on a connection that is held."""
        ...

    def measure(self, microvm_id: str) -> Usage:
        """Return what it costs the machine now; takes some milliseconds.

        Raises:
            OSError, VmmError: it is just being started or ended.
        """
        ...


class Checkpoints(Protocol):
    """Snapshots of microVMs at one instant. A new one has a name, chosen by who takes it, until it is kept."""

    async def take(self, plan: Plan, name: str) -> float:
        """Take a microVM's state at one instant, running or suspended; it goes on as it was.

        Returns:
            how many seconds the application stood still.

        Raises:
            VmmError, GuestError, HostError, OSError: it could not be taken.
        """
        ...

    async def publish(self, name: str) -> None:
        """Make what was taken a snapshot that nobody changes any more.

        Raises:
            OSError: the disk is full.
        """
        ...

    async def keep(self, name: str, image_id: str, version: str) -> None:
        """Make it the snapshot of an image version, on stable storage.

        Raises:
            OSError: that cannot be stored.
        """
        ...

    async def give(self, name: str, microvm_ids: Sequence[str]) -> None:
        """Let new microVMs start from it: each has it as a base of its own, on stable storage.

        Raises:
            VmmError: it cannot be started here.
            OSError: that cannot be stored.
        """
        ...

    async def drop(self, name: str) -> None:
        """Forget it, wherever it has got to; what was kept or given stays."""
        ...

    async def prepare_rollback(self, microvm_id: str, image_id: str, version: str) -> None:
        """Make ready for `roll_back` what a microVM is to be; it goes on as it was. `Machine.settle` takes it back.

        Raises:
            VmmError: the snapshot is of another engine.
            HostError, OSError: the files could not be made.
        """
        ...

    async def roll_back(self, microvm_id: str) -> None:
        """End a microVM's VMM if it has one, and let it be suspended as it was at the checkpoint that was prepared.

        Its connections are not those of the checkpoint, and are reset.

        Raises:
            HostError, OSError: after `Machine.settle`, `Machine.look` says what it is now.
        """
        ...


class Snapshots(Protocol):
    """The snapshots of image versions that a machine has."""

    def sizes(self, image_id: str, version: str) -> SnapshotSizes:
        """Return the sizes of a version's snapshot.

        Raises:
            HostError: it is missing, damaged, or cannot be read.
        """
        ...

    async def remove(self, image_id: str, version: str | None = None) -> bool:
        """Remove the snapshot of a version, or of every version; say whether nothing of it is left."""
        ...


class Prepared(Protocol):
    """MicroVMs that are started but for their identity."""

    def start(self) -> None:
        """Begin to keep what is launched from now on."""
        ...

    async def close(self) -> None:
        """End them all."""
        ...

    def measure(self) -> Sequence[tuple[str, str, Usage]]:
        """Return image id and version of each with what it costs the machine now; takes some milliseconds."""
        ...


class Engines(Protocol):
    """What a machine runs microVMs on. One that nobody has asked for yet is made when it is asked for."""

    async def find_problem(self, name: str) -> str:
        """Return why no microVM can run on an engine here, and what to do; empty when one can.

        Args:
            name: one of `ENGINE_NAMES`.
        """
        ...

    def report(self) -> Sequence[EngineReport]:
        """Return those that there are now, the server's own first."""
        ...
