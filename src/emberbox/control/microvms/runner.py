"""One microVM's life on this machine.

One object per microVM that is not TERMINATED has its owner, who makes all changes of it, one at a time (`owner.py`);
what becomes of a message to him is a table (`decide.py`). What must hold whatever fails is in docs/crash-safety.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emberbox.background import Background, in_thread
from emberbox.control.access.role_sessions import RoleSession
from emberbox.control.microvms.deadlines import LIFETIME_OVER, SUSPENDED_TOO_LONG, Deadlines
from emberbox.control.microvms.decide import Decision, Wanted, decide
from emberbox.control.microvms.hooks import RuntimeHooks
from emberbox.control.microvms.idle import IdleTimer
from emberbox.control.microvms.owner import Owner
from emberbox.control.microvms.row import MicrovmRow
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.stall import Stall
from emberbox.control.requests.tags import survives_failed_suspend
from emberbox.guest.agent import fresh_identity
from emberbox.guest.metadata import MetadataService
from emberbox.guest.output import DropOutput, OutputListener
from emberbox.guest.protocol import Command, Identity
from emberbox.guest.streams import GuestCommand
from emberbox.host.space import is_full_disk
from emberbox.images.lines import OutputLines
from emberbox.images.pipeline import log_stream
from emberbox.machine import checkpoint
from emberbox.machine.guest import Guest
from emberbox.machine.snapshot import (
    ImageSnapshot,
    is_suspended,
    load_image_snapshot,
    load_suspended,
)
from emberbox.machine.survivors import Survivor
from emberbox.machine.usage import measure_suspended
from emberbox.model.causes import Actor, caused_by, present_cause
from emberbox.model.clock import Instant
from emberbox.model.egress import NO_EGRESS, EgressPolicy
from emberbox.model.errors import (
    ConflictError,
    EmberboxError,
    GuestError,
    HostError,
    InternalError,
    VmmError,
)
from emberbox.model.records import ImageVersion, LogGroup, Microvm
from emberbox.model.states import MicrovmState
from emberbox.model.usage import Usage
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

WAKE_RETRIES_S = (0.5, 1.5)
RECONNECTS_AFTER_S = (0.5, 2.0, 5.0)
LOSSES_MAX, LOSSES_WITHIN_S = 5, 600.0
"""A guest that breaks the protocol more often is not spoken to again."""

_GOES_ON_WITHIN_S = limit_s(1.0)
_EXPLAINED_WITHIN_S = limit_s(1.0)
STOPS_WITHIN_S = limit_s(150.0)
"""What is under way when the server stops, and then the suspend, may take so long: each may wait for a hook."""

ENDED_BY_CALLER = "Success."
LOST = "The MicroVM's VMM ended while no Emberbox server was running."
NOT_TAKEN_OVER = "The MicroVM could not be taken over from a server that was killed:"
NOT_SUSPENDED_AT_STOP = "The MicroVM could not be suspended when the server stopped."
AGENT_LOST = "The MicroVM's agent does not answer any more:"
TERMINATING_ACTORS = {LIFETIME_OVER: Actor.TIMER, SUSPENDED_TOO_LONG: Actor.TIMER}


@dataclass
class MicrovmRunner:
    """The owner of one microVM.

    Args:
        context: see there.
        microvm: the row as it was when the runner was made.
        version: the image version it runs.
        log_group: where its output goes; None drops it.
        log_stream_name: the stream there; None makes one in AWS's form.
    """

    context: RunnerContext
    microvm: Microvm
    version: ImageVersion
    log_group: LogGroup | None
    log_stream_name: str | None = None
    _guest: Guest | None = None
    _background: Background = field(default_factory=Background)
    _incarnation: int = 0
    _explanation: str | None = None
    _output: OutputLines | None = None
    _row: MicrovmRow = field(init=False)
    _owner: Owner = field(init=False)
    _hooks: RuntimeHooks = field(init=False)
    _deadlines: Deadlines = field(init=False)
    _idle: IdleTimer = field(init=False)
    _metadata: MetadataService = field(init=False)
    _stall: Stall = field(init=False)
    _lacks_room: bool = False
    _stops: bool = False
    _losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the way of the application's output, and count its starts on from the row."""
        self._incarnation = self.microvm.incarnation - 1
        self._row = MicrovmRow(self.context.store, self.microvm, self._background)
        self._owner = Owner(self.id, lambda: self._row.known, self._settle)
        if self.log_group is not None:
            stream = self.log_stream_name or log_stream(self.version.version, self.id)
            self._output = OutputLines(self.context.log_writer.stream(self.log_group, stream))
        policy, role = self.microvm.request.idle_policy, self.microvm.request.execution_role
        self._metadata = RoleSession(self.context.issue_credentials, self.microvm.account_id, role, self.id).metadata()
        self._stall = Stall(self.id, self.context.store, self.context.space)
        self._hooks = RuntimeHooks(self.id, self.version.request)
        self._deadlines = Deadlines(self.context.timers, self.id, self._end_by_policy)
        self._idle = IdleTimer(self.context.timers, self.id, policy, self._note_idleness)

    @property
    def id(self) -> str:
        """The microVM's id."""
        return self.microvm.id

    @property
    def stalled(self) -> str | None:
        """Why it stands still though it is RUNNING; None when it does not."""
        return self._stall.reason

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.context.home / "microvms" / self.id

    def state(self) -> MicrovmState:
        """Return the state as the row has it.

        Raises:
            HostError: the database cannot be read.
        """
        return self._row.state()

    async def _settle(self, error: Exception) -> None:
        """Let row and files say what is there, after a change that failed in a way it does not know.

        The facts are those that the next server would find, and so is what follows from them (`FATES`).
        """
        guest = self._guest
        await self._settle_rollback()
        if is_suspended(self.directory):
            self._guest = None
            if guest is not None:
                await guest.end()
            self._stay_suspended()
        elif guest is not None:
            self._row.note(MicrovmState.RUNNING)
            self._idle.restart()
        else:
            await self._end(f"The MicroVM ended by an error of the server's: {error}")

    async def _settle_rollback(self) -> None:
        try:
            await in_thread(checkpoint.settle_rollback, self.directory, runs=self._guest is not None)
        except OSError as error:
            log.error("a rollback of %s could not be settled: %s", self.id, error)

    # --- launch

    def begin_to_launch(self, prepared: Guest | None = None) -> None:
        """Start it from its image's snapshot and call /run; what fails ends it with a reason.

        Args:
            prepared: a guest from the warm pool in this microVM's directory; where it fails, another is started.
        """
        self.context.pool.postpone()
        self._owner.tell(Wanted.LAUNCH, lambda: self._launch(prepared))

    async def _launch(self, prepared: Guest | None) -> None:
        started = time.monotonic()
        try:
            guest = await self._begin(prepared) or await self._launch_guest()
            self._start_guest(guest)
            await self._hooks.run(guest.agent, self.microvm.request.hook_payload or "")
        except Exception as error:
            if not isinstance(error, EmberboxError | OSError):
                log.exception("%s could not be launched", self.id)
            await self._end(str(error) or type(error).__name__)
            return
        self._row.note(MicrovmState.RUNNING)  # unless it is being terminated: whoever does that comes next
        self._idle.start()
        log.info("%s runs after %.0f ms", self.id, (time.monotonic() - started) * 1000)

    async def _begin(self, prepared: Guest | None) -> Guest | None:
        if prepared is None:
            return None
        try:
            await prepared.begin(self._new_identity(), self._listener(), self._egress())
        except (GuestError, VmmError) as error:
            log.warning("%s is started anew, its prepared VMM failed: %s", self.id, error)
            await in_thread(shutil.rmtree, self.directory, ignore_errors=True)
            return None
        return prepared

    def _new_identity(self) -> Identity:
        return fresh_identity(self.id, uuid.uuid4().hex)

    async def _launch_guest(self) -> Guest:
        snapshot = self._snapshot()
        self.directory.mkdir(parents=True, exist_ok=True)  # a fork's holds its base already
        return await self.context.guests.launch(
            snapshot, self.directory, self._new_identity(), self._listener(), self._egress()
        )

    def _egress(self) -> EgressPolicy | None:
        return self.context.find_egress(self.microvm.account_id, self.microvm.request.egress)

    async def renew_egress(self) -> None:
        """Let what its connector allows now count at once; where that is not known any more, it reaches nothing."""
        await self._owner.ask(Wanted.RESTRICT, self._renew_egress)

    async def _renew_egress(self) -> None:
        if self._guest is None:
            return
        try:
            egress = self._egress()
        except HostError as error:
            log.error("%s reaches nothing any more: %s", self.id, error)
            egress = NO_EGRESS
        if egress is not None:
            await self._guest.restrict(egress)

    def _snapshot(self) -> ImageSnapshot:
        """Return what it starts from: a fork, or one that was rolled back, has a base of its own.

        Raises:
            HostError: it is missing or damaged.
        """
        base = self.directory / "base"
        if self.microvm.own_base or base.exists():  # its image's in its place would be another microVM
            return load_image_snapshot(base)
        return self.context.load_snapshot(self.version.image_id, self.version.version)

    def _start_guest(self, guest: Guest) -> None:
        self._guest = guest
        guest.agent.serve(self._metadata.serve)
        self._incarnation += 1
        self._background.start(self._watch(guest), f"the watch over {self.id}")

    # --- while it runs

    async def reach(self, port: int) -> tuple[str, int, str] | None:
        """Return address, port and incarnation for a port of the guest; None when it does not run.

        A launch or suspend under way is waited for; a suspended microVM is resumed when its policy says so.

        Raises:
            InternalError: it cannot be resumed.
        """
        while (guest := await self._find_running()) is not None:
            address, host_port = await guest.reach(port)
            if guest is self._guest and not self._owner.is_busy:
                return address, host_port, f"{self.id}.{self._incarnation}"
        return None

    async def _find_running(self) -> Guest | None:
        self._stall.check()
        if self._guest is not None and not self._owner.is_busy:
            return self._guest
        await self._owner.ask(Wanted.WAKE, self._wake, WAKE_RETRIES_S)
        return self._guest

    async def _wake(self) -> None:
        if self._resumes_by_itself():
            await self._resume_if_suspended()

    async def wake(self) -> str | None:
        """Return its incarnation; None when it does not run. Waits and resumes as `reach` does."""
        guest = await self._find_running()
        return None if guest is None else f"{self.id}.{self._incarnation}"

    async def open_command(self, command: Command) -> GuestCommand | None:
        """Start a command in the application's container; None when it does not run. Waits and resumes as `reach` does.

        Raises:
            GuestError: the command cannot be started.
        """
        while (guest := await self._find_running()) is not None:
            try:
                return await guest.agent.open_command(command)
            except GuestError:
                if guest is self._guest and not self._owner.is_busy:
                    raise  # it was not a suspend that came between
        return None

    def doubt(self, port: int) -> None:
        """A connection to a port of the guest has failed: what is known of the port may be wrong."""
        if self._guest is not None:
            self._guest.doubt(port)

    def spoke_tls(self, port: int) -> bool | None:
        """Say whether a port spoke TLS when the image was built; None where nothing listened there then."""
        return None if self._guest is None else self._guest.ports.get(port)

    def note_bytes(self, *, from_client: bool) -> None:
        """Bytes have crossed its endpoint: it is not idle. What a client sends on an open stream wakes it."""
        self._idle.restart()
        if from_client and (self._guest is None or self._owner.is_busy) and self._resumes_by_itself():
            self._owner.tell(Wanted.HEAR, self._hear_client)

    async def _hear_client(self) -> None:
        """Resume it where it has not received all that its clients sent: reports are late, and may be of before."""
        if self.context.guests.has_undelivered(self.id):
            with caused_by(Actor.REQUEST, "Bytes of a client on an open stream."):
                self._owner.tell(Wanted.WAKE, self._wake, WAKE_RETRIES_S)

    def _note_idleness(self) -> None:
        if not self._owner.tell(Wanted.SUSPEND_IDLE, self._end_idleness):
            self._idle.restart()  # it is tried again after the next idle time

    async def _end_idleness(self) -> None:
        """Suspend it after its idle time, or end it when its policy leaves it no suspended time."""
        if not self._idle.is_over:
            return  # a request came in at the last moment
        self._idle.restart()  # where nothing comes of it, it is tried again
        policy = self.microvm.request.idle_policy
        if policy is not None and policy.suspended_s == 0:
            self.begin_to_terminate(SUSPENDED_TOO_LONG)
        elif not self.stalled:
            reason = f"No byte has crossed its endpoint for {self._idle.limit_s} s."
            with caused_by(Actor.IDLE_POLICY, reason), contextlib.suppress(InternalError, ConflictError):
                await self._suspend(server_stops=False)

    def _resumes_by_itself(self) -> bool:
        return self.microvm.request.resumes_itself

    async def _watch(self, guest: Guest) -> None:
        """End the microVM when its application or its VMM ends by itself, or its agent is lost for good."""
        vmm = asyncio.create_task(guest.wait_exited())
        stalls = asyncio.create_task(self._watch_disk(guest))
        try:
            while True:
                ends: list[asyncio.Future[Any]] = [vmm, guest.agent.exited, guest.lost]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if self._guest is not guest:
                    return  # suspended or terminated: that was us
                if guest.agent.exited.done():
                    actor, reason = Actor.GUEST, f"Container Stopped with Exit Code: {guest.agent.exited.result()}"
                elif await _ends_soon(vmm):  # and that is why the agent is lost
                    actor, reason = Actor.VMM, f"The microVM's VMM ended unexpectedly: {vmm.result()}"
                elif await self._stands_still(guest):  # then no agent answers, and none is lost
                    await asyncio.sleep(_GOES_ON_WITHIN_S)
                    continue
                elif await self._owner.ask(Wanted.FIND_AGENT, lambda: self._reconnect(guest)):
                    continue
                else:
                    actor, reason = Actor.GUEST, f"{AGENT_LOST} {guest.lost.result()}"
                break
            with caused_by(actor, reason):
                await self._owner.ask(Wanted.LOSE, lambda: self._end_if(guest, reason))
        finally:
            vmm.cancel()
            stalls.cancel()

    async def _watch_disk(self, guest: Guest) -> None:
        """Let the guest go on each time that its VMM has stopped it because the host's disk was full."""
        with contextlib.suppress(VmmError):  # it has ended
            while self._guest is guest:
                await guest.wait_stalled()
                if not await self._stall.wait_for_room():
                    return
                await self._owner.ask(Wanted.GO_ON, lambda: self._go_on(guest))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GOES_ON_WITHIN_S):
                        await guest.wait_stalled()
                        continue
                self._stall.end()

    async def _stands_still(self, guest: Guest) -> bool:
        with contextlib.suppress(VmmError):
            return await guest.is_stalled()
        return False

    async def _go_on(self, guest: Guest) -> None:
        if self._guest is guest and await guest.is_stalled():
            await guest.go_on()

    async def _end_if(self, guest: Guest, reason: str) -> None:
        if self._guest is guest:  # else it was suspended or terminated: that was us
            await self._end(reason)

    async def _reconnect(self, guest: Guest) -> bool:
        """Find a guest's agent again, which has been lost; say whether that is settled."""
        if self._guest is not guest:
            return True
        log.warning("the agent of %s is lost and looked for again: %s", self.id, guest.lost.result())
        now = time.monotonic()
        self._losses = [moment for moment in self._losses if now - moment < LOSSES_WITHIN_S] + [now]
        if len(self._losses) > LOSSES_MAX:
            return False
        for delay_s in RECONNECTS_AFTER_S:
            await asyncio.sleep(delay_s)
            try:
                await guest.reconnect(self._listener())
            except Exception as error:  # whatever it is, the watch goes on
                log.warning("the agent of %s is not found: %s", self.id, error)
            else:
                guest.agent.serve(self._metadata.serve)
                return True
        return False

    def _listener(self) -> OutputListener:
        return self._output or DropOutput()

    def measure(self) -> Usage:
        """Return what it costs the machine now; takes some milliseconds.

        Raises:
            OSError, VmmError: it is just being started or ended.
        """
        guest = self._guest
        return measure_suspended(self.directory) if guest is None else guest.measure()

    # --- suspend and resume

    async def suspend(self, *, server_stops: bool = False) -> None:
        """Call /suspend, save it and end its VMM. When it cannot be saved it runs on.

        Args:
            server_stops: it cannot run on, so where its image wants to survive a failed hook, it is saved all the same.

        Raises:
            InternalError: it could not be saved; the text says why.
            ConflictError: its /suspend hook failed, and its image's tag says that it is to run on; or it stands still.
        """
        if not server_stops:
            self._stall.check()
        wanted = Wanted.SAVE if server_stops else Wanted.SUSPEND
        await self._owner.ask(wanted, lambda: self._suspend(server_stops=server_stops))

    async def _suspend(self, *, server_stops: bool) -> None:
        guest = self._guest
        if guest is None or not self._begin_to_suspend(server_stops=server_stops):
            return
        await self.context.drain(self.id)
        failure = None if self.stalled else await self._hooks.suspend(guest.agent)
        if failure is not None and await guest.is_stalled():
            failure = None  # it could not be called
        survives = failure is None or survives_failed_suspend(self.context.image_tags(self.version.image_id))
        if not survives:
            await self._end(str(failure))
        elif failure is None or server_stops:
            await self._save(guest)
        else:
            with caused_by(Actor.GUEST, str(failure)):
                self._row.note(MicrovmState.RUNNING)
            self._idle.restart()
            log.warning("%s was not suspended and runs on: %s", self.id, failure)
            raise ConflictError(f"The MicroVM {self.id} was not suspended and is still running: {failure}")

    def _begin_to_suspend(self, *, server_stops: bool) -> bool:
        """Make it SUSPENDING; False when it is being terminated. A stop saves it also where that cannot be stored.

        Raises:
            InternalError: the database cannot be written.
        """
        try:
            return self._row.begin(MicrovmState.SUSPENDING)
        except HostError as error:
            if server_stops:  # the next server goes by the files
                return True
            raise InternalError(f"The MicroVM {self.id} was not suspended and is still running: {error}") from error

    async def _save(self, guest: Guest) -> None:
        started = time.monotonic()
        try:
            figures = await guest.suspend()
        except (GuestError, VmmError, HostError, OSError) as error:
            if is_suspended(self.directory):  # only what comes after the saving has failed
                await self._settle(error)
                return
            self._lacks_room = is_full_disk(error)
            with caused_by(Actor.SERVER, f"It could not be suspended: {error}"):
                self._row.note(MicrovmState.RUNNING)
            self._idle.restart()
            log.warning("%s could not be suspended and runs on: %s", self.id, error)
            raise InternalError(
                f"The MicroVM {self.id} could not be suspended and is still running: {error}"
            ) from error
        self._guest = None
        self._idle.stop()
        self._become_suspended()
        milliseconds = (time.monotonic() - started) * 1000
        log.info("%s was suspended in %.0f ms, %d bytes of memory", self.id, milliseconds, figures.memory_bytes)

    def _stay_suspended(self) -> None:
        """Its saved state is the truth, whatever its row says."""
        with contextlib.suppress(HostError):
            if self.state() is MicrovmState.SUSPENDED:
                self._deadlines.start_suspended(self.microvm)
                return
        self._become_suspended()

    def _become_suspended(self) -> None:
        self._idle.stop()
        self.microvm = replace(self.microvm, suspended=Instant.now())
        self._row.note(MicrovmState.SUSPENDED, suspended=self.microvm.suspended, own_base=self.microvm.own_base)
        self._deadlines.start_suspended(self.microvm)

    async def resume(self) -> None:
        """Start it where it was, and call /resume.

        Raises:
            InternalError: it could not be started; it is still suspended, with all it had.
        """
        await self._owner.ask(Wanted.RESUME, self._resume_if_suspended)

    async def _resume_if_suspended(self) -> None:
        if self._guest is not None:
            return
        if self._stops:  # the next server would have to take back what this one cannot finish
            raise InternalError(f"The MicroVM {self.id} is still suspended: the server stops")
        try:
            self._row.catch_up()
            if self.state() is not MicrovmState.SUSPENDED:
                return
        except HostError as error:
            raise InternalError(
                f"The MicroVM {self.id} could not be resumed and is still suspended: {error}"
            ) from error
        await self._resume()

    async def _resume(self) -> None:
        started = time.monotonic()
        self.context.pool.postpone()
        self._deadlines.stop_suspended()
        try:
            state = load_suspended(self.directory)
            guest = await self.context.guests.resume(self._snapshot(), state, self._listener(), self._egress())
        except (GuestError, VmmError, HostError, OSError) as error:
            log.warning("%s could not be resumed: %s", self.id, error)
            if not is_suspended(self.directory):
                await self._end(f"The MicroVM ended while it was resumed: {error}")
                raise InternalError(f"The MicroVM {self.id} ended while it was resumed: {error}") from error
            self._deadlines.start_suspended(self.microvm)
            self._explain(f"The MicroVM could not be resumed: {error}")
            raise InternalError(
                f"The MicroVM {self.id} could not be resumed and is still suspended: {error}"
            ) from error
        self._start_guest(guest)
        await self._hooks.resume(guest.agent)
        duration_s = time.monotonic() - started
        self._row.note(MicrovmState.RUNNING, new_incarnation=True, duration_s=duration_s)
        self._explain(None)
        self._idle.start()
        log.info("%s was resumed in %.0f ms", self.id, duration_s * 1000)

    def _explain(self, reason: str | None) -> None:
        """Say in its row why it stays suspended, or that this is over."""
        if reason != self._explanation:
            with contextlib.suppress(HostError):  # the caller is told all the same
                self._row.explain(reason)
                self._explanation = reason

    # --- checkpoints

    async def take_checkpoint(self, directory: Path) -> tuple[ImageSnapshot, float]:
        """Snapshot it at one instant, running or suspended; it goes on as it was.

        Args:
            directory: where the snapshot's files go; a new one.

        Returns:
            the published snapshot, and how many seconds the application stood still.

        Raises:
            ConflictError: it neither runs nor is suspended.
            GuestError, VmmError, HostError, OSError: it could not be taken.
        """
        self._stall.check()
        drafted = await self._owner.ask(Wanted.CHECKPOINT, lambda: self._draft_checkpoint(directory))
        assert drafted is not None, "what is not refused is done"
        draft, stopped_s = drafted
        log.info("%s stood still for %.0f ms for a snapshot", self.id, stopped_s * 1000)
        return await in_thread(checkpoint.publish, self.context.guests.states, draft), stopped_s

    async def _draft_checkpoint(self, directory: Path) -> tuple[ImageSnapshot, float]:
        guest, state = self._guest, self.state()
        if guest is not None and state is MicrovmState.RUNNING:
            draft = await guest.draft(directory)
            started = time.monotonic()
            await guest.capture(draft)
            stopped_s = time.monotonic() - started
            return await draft.store(), stopped_s
        if state is MicrovmState.SUSPENDED:
            suspended = load_suspended(self.directory)
            states = self.context.guests.states
            made = await in_thread(checkpoint.copy_suspended, states, self._snapshot(), suspended, directory)
            return made, 0.0
        raise ConflictError(f"The MicroVM {self.id} is in state {state}; wait until it has settled.")

    async def roll_back(self, snapshot: ImageSnapshot) -> None:
        """Make it what it was at a checkpoint of its own, and run it from there; what came after is lost.

        Raises:
            ConflictError: it neither runs nor is suspended.
            VmmError: the snapshot is of another engine; it is as it was.
            HostError, OSError: the files could not be made; it is as it was.
            InternalError: it could not be started; it is suspended, as it was at the checkpoint.
        """
        await self._owner.ask(Wanted.ROLL_BACK, lambda: self._roll_back(snapshot))

    async def _roll_back(self, snapshot: ImageSnapshot) -> None:
        guest, state = self._guest, self.state()
        if state not in (MicrovmState.RUNNING, MicrovmState.SUSPENDED):
            raise ConflictError(f"The MicroVM {self.id} is in state {state}; wait until it has settled.")
        self.context.guests.check_engine(snapshot.engine)
        await in_thread(checkpoint.prepare_rollback, self.context.guests.states, snapshot, self.directory)
        if guest is not None:
            if not self._row.begin(MicrovmState.SUSPENDING):
                await self._settle_rollback()
                raise ConflictError(f"The MicroVM {self.id} is being terminated.")
            self.context.revoke(self.id)
            self._guest = None
            await guest.end()
        await self.context.guests.let_go(self.id)  # they are not those of the checkpoint
        await in_thread(checkpoint.roll_back, self.directory)
        self.microvm = replace(self.microvm, own_base=True)
        self._become_suspended()
        await self._resume()

    # --- end

    def start_lifetime(self) -> None:
        """Let its maximum duration count."""
        self._deadlines.start_lifetime(self.microvm)

    def _end_by_policy(self, reason: str) -> None:
        if self._stops:
            return  # the next server finds it due
        if reason == LIFETIME_OVER or self._guest is None:  # else it has just been resumed
            self.begin_to_terminate(reason)

    def begin_to_terminate(self, reason: str) -> bool:
        """Move it to TERMINATING at once, and end it in the background; False when that was done before.

        Raises:
            HostError: the database cannot be written; it goes on.
        """
        with caused_by(TERMINATING_ACTORS.get(reason, present_cause().actor), reason):
            self._row.catch_up()
            if decide(self._row.known, None, Wanted.TERMINATE) is Decision.IGNORE:
                return False
            if not self._row.begin(MicrovmState.TERMINATING, reason):
                return False
            self._stall.give_up()
            self._owner.tell(Wanted.END, lambda: self._terminate(reason))
        return True

    async def _terminate(self, reason: str) -> None:
        if self._guest is not None and self.stalled is None:
            self.context.revoke(self.id)
            try:
                await self._hooks.terminate(self._guest.agent)
            except Exception:
                log.exception("/terminate of %s", self.id)
        await self._end(reason)

    async def _end(self, reason: str) -> None:
        """Free everything it has, then say so; what cannot be freed keeps nothing else from being freed."""
        guest, self._guest = self._guest, None
        self._idle.stop()
        self._deadlines.stop()
        try:
            async with contextlib.AsyncExitStack() as freed:  # in the opposite order
                freed.push_async_callback(in_thread, checkpoint.remove_microvm, self.directory)
                if self._output is not None:
                    freed.callback(self._output.finish)
                freed.push_async_callback(self.context.guests.let_go, self.id)
                if guest is not None:
                    freed.push_async_callback(guest.end)
                freed.callback(self.context.revoke, self.id)
        except Exception:
            log.exception("not all that %s had could be freed", self.id)
        self._row.note(
            MicrovmState.TERMINATED, reason=reason, terminated_at=datetime.now(UTC),
            then=lambda: self.context.on_ended(self.id),
        )  # fmt: skip
        log.info("%s has ended: %s", self.id, reason)

    async def stop(self) -> None:
        """Suspend it and let go of it, as the server stops; what is under way comes to its end before.

        A guest that cannot be suspended ends: without a server it would have neither owner nor endpoint. But where only
        room on the disk is lacking, its VMM runs on, as after a kill, and the next server takes it over.
        """
        self._stops = True
        self._stall.give_up()
        self._idle.stop()
        self._deadlines.stop()
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                await self.suspend(server_stops=True)
        except (EmberboxError, OSError) as error:  # TimeoutError among them
            log.error("%s: %s", self.id, str(error) or f"it was not suspended within {STOPS_WITHIN_S:g} s")
        except Exception:
            log.exception("%s could not be suspended", self.id)
        await self._background.close()
        await self._owner.close()
        await self._let_go()  # nothing else is under way any more, and nothing is begun
        await self._background.close()

    async def _let_go(self) -> None:
        """End a guest that is still there: it could not be suspended, or its launch took too long."""
        guest = self._guest
        if guest is not None:
            log.error("%s still runs as the server stops", self.id)
            if is_suspended(self.directory) or self._is_pending():
                self._guest = None
                await guest.end()
            elif self._lacks_room or self.stalled:
                self._guest = None
                await guest.leave()
                log.error("%s runs on: there is no room to suspend it; free some and start the server again", self.id)
            else:
                await self._end(NOT_SUSPENDED_AT_STOP)
        if is_suspended(self.directory):
            self._row.note(MicrovmState.SUSPENDED)
        await self.context.guests.let_go(self.id)
        with contextlib.suppress(HostError):
            self._row.catch_up()

    def _is_pending(self) -> bool:
        """Say whether it is being launched: the next server does that again."""
        try:
            return self.state() is MicrovmState.PENDING
        except HostError:
            return False

    # --- what an earlier server left

    def begin_to_take_over(self, survivor: Survivor) -> None:
        """Go on with a VMM that an earlier server started; finish a resume that was under way, undo a suspend."""
        self._owner.tell(Wanted.TAKE_OVER, lambda: self._take_over(survivor))

    async def _take_over(self, survivor: Survivor) -> None:
        resuming = self.microvm.state is MicrovmState.SUSPENDED
        if resuming:
            self._incarnation += 1
        started = time.monotonic()
        try:
            guest = await self.context.guests.adopt(
                self._snapshot(), self.directory, survivor, self._listener(), self._wait_to_adopt, resumes=resuming
            )
            if guest is None:  # the server stops, and the next one finds it as this one did
                return
        except (EmberboxError, OSError) as error:
            if self.state() is not MicrovmState.TERMINATING:  # else that waits for its turn, and has a reason
                await self._end(f"{NOT_TAKEN_OVER} {error}")
            return
        self._stall.end()
        self._start_guest(guest)
        if resuming:
            await self._hooks.resume(guest.agent)
        self._row.note(MicrovmState.RUNNING, new_incarnation=resuming)
        self._idle.start()
        log.info("%s was taken over in %.0f ms", self.id, (time.monotonic() - started) * 1000)

    async def _wait_to_adopt(self) -> bool:
        """Wait for room; False when the server stops.

        Raises:
            GuestError: it is terminated instead.
        """
        if await self._stall.wait_for_room():
            return True
        if self._stops:
            return False
        raise GuestError("it is being terminated")

    def keep_suspended(self) -> None:
        """Take over a microVM that is suspended, though its row may not say so yet."""
        self._incarnation = self.microvm.incarnation
        if self.microvm.state is not MicrovmState.SUSPENDED:
            self._become_suspended()
        self._explanation = self.microvm.state_reason
        try:
            self.context.guests.check_engine(load_suspended(self.directory).engine)
        except (HostError, VmmError) as error:
            self._explain(f"The MicroVM cannot be resumed: {error}")
        self._deadlines.start_suspended(self.microvm)

    def begin_to_finish(self, reason: str) -> None:
        """End what was being terminated, or what has no VMM any more."""
        self._owner.tell(Wanted.END, lambda: self._end(reason))


async def _ends_soon(end: asyncio.Future[Any]) -> bool:  # Any: what it returns is not looked at
    """Wait a moment for an end that explains another."""
    await asyncio.wait([end], timeout=_EXPLAINED_WITHIN_S)
    return end.done()
