"""One microVM's life on this machine.

One object per microVM that is not TERMINATED owns all changes of it: they happen one at a time, under its lock, and
each is one conditional change of the row. What may be asked in which state is the table in `model/states.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emberbox.control.deadlines import LIFETIME_OVER, SUSPENDED_TOO_LONG, Deadlines
from emberbox.control.idle import IdleTimer
from emberbox.control.image_rules import survives_failed_suspend
from emberbox.control.ingress import lets_in
from emberbox.control.role_sessions import RoleSession
from emberbox.control.runner_context import RunnerContext
from emberbox.control.runtime_hooks import RuntimeHooks
from emberbox.guest.agent import fresh_identity
from emberbox.guest.metadata import MetadataService
from emberbox.guest.protocol import Command, Identity
from emberbox.guest.streams import GuestCommand
from emberbox.images.lines import LineSplitter
from emberbox.images.pipeline import log_stream
from emberbox.machine import checkpoint
from emberbox.machine.guests import Guest
from emberbox.machine.snapshot import (
    ImageSnapshot,
    SuspendedState,
    is_suspended,
    load_image_snapshot,
    load_resumed,
    load_suspended,
)
from emberbox.machine.survivors import Survivor
from emberbox.machine.usage import Usage, measure_suspended
from emberbox.model.causes import Actor, caused_by, present_cause
from emberbox.model.clock import Instant
from emberbox.model.egress import NO_EGRESS, EgressPolicy
from emberbox.model.errors import ConflictError, EmberboxError, GuestError, HostError, InternalError, VmmError
from emberbox.model.records import ImageVersion, LogGroup, Microvm
from emberbox.model.sizes import SIZES
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0
WAKE_RETRIES_S = (0.5, 1.5)
ENDED_BY_CALLER = "Success."
LOST = "The MicroVM's VMM ended while no Emberbox server was running."
NOT_TAKEN_OVER = "The MicroVM could not be taken over from a server that was killed:"
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
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _incarnation: int = 0
    _explanation: str | None = None
    _saved_runs: tuple[tuple[int, int], ...] = ()
    _splitters: list[LineSplitter] = field(default_factory=list)
    _hooks: RuntimeHooks = field(init=False)
    _deadlines: Deadlines = field(init=False)
    _idle: IdleTimer = field(init=False)
    _metadata: MetadataService = field(init=False)
    _waking: asyncio.Task[None] | None = None
    _hearing: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Prepare the way of the application's output, and count its starts on from the row."""
        self._incarnation = self.microvm.incarnation - 1
        stream = self.log_stream_name or log_stream(self.version.version, self.id)
        self._splitters = [LineSplitter(lambda line: self._write_line(stream, line)) for _ in range(2)]
        policy = self.microvm.request.get("idlePolicy")
        role = self.microvm.request.get("executionRoleArn")
        self._metadata = RoleSession(self.context.issue_credentials, self.microvm.account_id, role, self.id).metadata()
        self._hooks = RuntimeHooks(self.id, self.version.request)
        self._deadlines = Deadlines(self.context.timers, self.id, self._end_by_policy)
        self._idle = IdleTimer(self.context.timers, self.id, policy, lambda: self.in_background(self._end_idleness()))

    @property
    def id(self) -> str:
        """The microVM's id."""
        return self.microvm.id

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.context.home / "microvms" / self.id

    def state(self) -> MicrovmState:
        """Return the state as the row has it."""
        found = self.context.store.find(self.id)
        return MicrovmState.TERMINATED if found is None else found.state

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work of this microVM; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- launch

    async def launch(self, prepared: Guest | None = None) -> None:
        """Start it from its image's snapshot and call /run; what fails ends it with a reason.

        Args:
            prepared: a guest from the warm pool in this microVM's directory; where it fails, another is started.
        """
        self.context.pool.postpone()
        async with self._lock:
            started = time.monotonic()
            try:
                guest = await self._begin(prepared) or await self._launch_guest()
                await self._start_guest(guest)
                await self._hooks.run(guest.agent, self.microvm.request.get("runHookPayload") or "")
            except (EmberboxError, OSError) as error:
                await self._end(str(error) or type(error).__name__)
                return
            if not self._move(MicrovmState.RUNNING):
                return  # it is being terminated; whoever does that waits for the lock
            self._idle.start()
            log.info("%s runs after %.0f ms", self.id, (time.monotonic() - started) * 1000)

    async def _begin(self, prepared: Guest | None) -> Guest | None:
        if prepared is None:
            return None
        try:
            await prepared.begin(self._new_identity(), self._take_output, self._egress())
        except (GuestError, VmmError) as error:
            log.warning("%s is started anew, its prepared VMM failed: %s", self.id, error)
            await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)
            return None
        return prepared

    def _new_identity(self) -> Identity:
        return fresh_identity(self.id, uuid.uuid4().hex)

    async def _launch_guest(self) -> Guest:
        snapshot = self._snapshot()
        self.directory.mkdir(parents=True, exist_ok=True)  # a fork's holds its base already
        return await self.context.guests.launch(
            snapshot, self.directory, self._new_identity(), self._take_output, self._egress()
        )

    def _egress(self) -> EgressPolicy | None:
        return self.context.find_egress(self.microvm.account_id, self.microvm.request["egressNetworkConnectors"])

    async def renew_egress(self) -> None:
        """Let what its connector allows now count at once; where that is not known any more, it reaches nothing."""
        async with self._lock:
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
        """Return what it starts from: a fork, or one that was rolled back, has a base of its own."""
        base = self.directory / "base"
        if base.exists():
            return load_image_snapshot(base)
        return self.context.load_snapshot(self.version.image_id, self.version.version)

    async def _start_guest(self, guest: Guest) -> None:
        self._guest = guest
        guest.agent.serve(self._metadata.serve)
        self._incarnation += 1
        self.in_background(self._watch(guest))

    # --- while it runs

    async def reach(self, port: int) -> tuple[str, int, str] | None:
        """Return address, port and incarnation for a port of the guest; None when it does not run.

        A launch or suspend under way is waited for; a suspended microVM is resumed when its policy says so.

        Raises:
            InternalError: it cannot be resumed.
        """
        while (guest := await self._find_running()) is not None:
            address, host_port = await guest.reach(port)
            if guest is self._guest and not self._lock.locked():
                return address, host_port, f"{self.id}.{self._incarnation}"
        return None

    async def _find_running(self) -> Guest | None:
        if self._guest is not None and not self._lock.locked():
            return self._guest
        async with self._lock:
            guest = self._guest
        if guest is None and self._resumes_by_itself() and self.state() is MicrovmState.SUSPENDED:
            await self._resume_for_all()
            guest = self._guest
        return guest

    async def _resume_for_all(self) -> None:
        """Resume it for all requests that wait, however many they are.

        Raises:
            InternalError: it cannot be resumed, tried several times.
        """
        if self._waking is None or self._waking.done():
            self._waking = self.in_background(self._resume_insistently())
        await asyncio.shield(self._waking)

    async def _resume_insistently(self) -> None:
        for delay_s in WAKE_RETRIES_S:
            try:
                return await self.resume()
            except InternalError:
                await asyncio.sleep(delay_s)
        return await self.resume()

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
                if guest is self._guest and not self._lock.locked():
                    raise  # it was not a suspend that came between
        return None

    def spoke_tls(self, port: int) -> bool | None:
        """Say whether a port spoke TLS when the image was built; None where nothing listened there then."""
        return None if self._guest is None else self._guest.ports.get(port)

    def serves_applications(self) -> bool:
        """Say whether its ingress connectors let requests for the application in."""
        return lets_in(self.microvm.request["ingressNetworkConnectors"], "application")

    def serves_shells(self) -> bool:
        """Say whether they let shells, commands and file copies in."""
        return lets_in(self.microvm.request["ingressNetworkConnectors"], "shell")

    def vcpu_count(self) -> int:
        """Return how many processors its guest has."""
        return SIZES[self.version.request["resources"][0]["minimumMemoryInMiB"]].vcpu_count

    def note_bytes(self, *, from_client: bool) -> None:
        """Bytes have crossed its endpoint: it is not idle. What a client sends on an open stream wakes it."""
        self._idle.restart()
        stands = self._guest is None or self._lock.locked()
        if from_client and stands and self._resumes_by_itself() and (self._hearing is None or self._hearing.done()):
            self._hearing = self.in_background(self._hear_client())

    async def _hear_client(self) -> None:
        """Resume it where it has not received all that its clients sent: reports are late, and may be of before."""
        async with self._lock:
            pass  # a suspend under way
        if self._guest is None and self.context.guests.has_undelivered(self.id):
            with caused_by(Actor.REQUEST, "Bytes of a client on an open stream."), contextlib.suppress(InternalError):
                await self._resume_for_all()

    async def _end_idleness(self) -> None:
        """Suspend it after its idle time, or end it when its policy leaves it no suspended time."""
        if not self._idle.is_over:
            return  # a request came in at the last moment
        if self._lock.locked():
            self._idle.restart()
        elif self.microvm.request["idlePolicy"]["suspendedDurationSeconds"] == 0:
            self.begin_to_terminate(SUSPENDED_TOO_LONG)
        else:
            reason = f"No byte has crossed its endpoint for {self._idle.limit_s} s."
            with caused_by(Actor.IDLE_POLICY, reason), contextlib.suppress(InternalError, ConflictError):
                await self.suspend()  # where it fails it runs on, and is tried again later

    def _resumes_by_itself(self) -> bool:
        policy = self.microvm.request.get("idlePolicy") or {}
        return bool(policy.get("autoResumeEnabled"))

    async def _watch(self, guest: Guest) -> None:
        """End the microVM when its application or its VMM ends by itself."""
        vmm = asyncio.create_task(guest.wait_exited())
        try:
            ends: list[asyncio.Future[Any]] = [vmm, guest.agent.exited]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._guest is not guest:
                return  # suspended or terminated: that was us
            if guest.agent.exited.done():
                actor, reason = Actor.GUEST, f"Container Stopped with Exit Code: {guest.agent.exited.result()}"
            else:
                actor, reason = Actor.VMM, f"The microVM's VMM ended unexpectedly: {vmm.result()}"
            async with self._lock:
                if self._guest is guest:
                    with caused_by(actor, reason):
                        await self._end(reason)
        finally:
            vmm.cancel()

    def _take_output(self, which: int, data: bytes) -> None:
        self._splitters[which - 1].feed(data)

    def _write_line(self, stream: str, line: str) -> None:
        if self.log_group is not None:
            self.context.log_writer.write(self.log_group, stream, line)

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
            ConflictError: its /suspend hook failed, and its image's tag says that it is to run on.
        """
        async with self._lock:
            if self._guest is None or not self._move(MicrovmState.SUSPENDING):
                return
            await self.context.drain(self.id)
            failure = await self._hooks.suspend(self._guest.agent)
            survives = failure is None or survives_failed_suspend(self.context.image_tags(self.version.image_id))
            if not survives:
                await self._end(str(failure))
            elif failure is None or server_stops:
                await self._save(self._guest)
            else:
                with caused_by(Actor.GUEST, str(failure)):
                    self._move_surely(MicrovmState.RUNNING)
                self._idle.restart()
                log.warning("%s was not suspended and runs on: %s", self.id, failure)
                raise ConflictError(f"The MicroVM {self.id} was not suspended and is still running: {failure}")

    async def _save(self, guest: Guest) -> None:
        started = time.monotonic()
        try:
            figures = await guest.suspend(self._saved_runs)
        except (GuestError, VmmError, HostError, OSError) as error:
            with caused_by(Actor.SERVER, f"It could not be suspended: {error}"):
                self._move_surely(MicrovmState.RUNNING)
            self._idle.restart()
            log.warning("%s could not be suspended and runs on: %s", self.id, error)
            raise InternalError(
                f"The MicroVM {self.id} could not be suspended and is still running: {error}"
            ) from error
        self._guest = None
        self._idle.stop()
        self._saved_runs = load_suspended(self.directory).runs
        self._become_suspended()
        milliseconds = (time.monotonic() - started) * 1000
        log.info("%s was suspended in %.0f ms, %d bytes of memory", self.id, milliseconds, figures.memory_bytes)

    def _become_suspended(self) -> None:
        self.microvm = replace(self.microvm, suspended=Instant.now())
        self._move_surely(MicrovmState.SUSPENDED, suspended=self.microvm.suspended)
        self._deadlines.start_suspended(self.microvm)

    async def resume(self) -> None:
        """Start it where it was, and call /resume.

        Raises:
            InternalError: it could not be started; it is still suspended, with all it had.
        """
        async with self._lock:
            if self._guest is not None or self.state() is not MicrovmState.SUSPENDED:
                return
            await self._resume()

    async def _resume(self) -> None:
        started = time.monotonic()
        self.context.pool.postpone()
        self._deadlines.stop_suspended()
        try:
            state = load_suspended(self.directory)
            guest = await self.context.guests.resume(self._snapshot(), state, self._take_output, self._egress())
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
        self._saved_runs = state.runs
        await self._start_guest(guest)
        await self._hooks.resume(guest.agent)
        duration_s = time.monotonic() - started
        self._move_surely(MicrovmState.RUNNING, new_incarnation=True, duration_s=duration_s)
        self._explain(None)
        self._idle.start()
        log.info("%s was resumed in %.0f ms", self.id, duration_s * 1000)

    def _explain(self, reason: str | None) -> None:
        """Say in its row why it stays suspended, or that this is over."""
        if reason != self._explanation:
            with contextlib.suppress(HostError):  # the caller is told all the same
                self.context.store.explain(self.id, reason)
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
        async with self._lock:
            guest, state = self._guest, self.state()
            if guest is not None and state is MicrovmState.RUNNING:
                saved = SuspendedState(self.directory, self._saved_runs).layers
                draft = await asyncio.to_thread(checkpoint.begin, self._snapshot(), saved, directory)
                started = time.monotonic()
                captured = await guest.checkpoint(draft)
                stopped_s = time.monotonic() - started
                draft = await asyncio.to_thread(checkpoint.store, captured)
            elif state is MicrovmState.SUSPENDED:
                suspended = load_suspended(self.directory)
                draft = await asyncio.to_thread(checkpoint.begin, self._snapshot(), suspended.layers, directory)
                draft = await asyncio.to_thread(checkpoint.take_over, draft, suspended)
                stopped_s = 0.0
            else:
                raise ConflictError(f"The MicroVM {self.id} is in state {state}; wait until it has settled.")
        log.info("%s stood still for %.0f ms for a snapshot", self.id, stopped_s * 1000)
        return await asyncio.to_thread(checkpoint.publish, draft), stopped_s

    async def roll_back(self, snapshot: ImageSnapshot) -> None:
        """Make it what it was at a checkpoint of its own, and run it from there; what came after is lost.

        Raises:
            ConflictError: it neither runs nor is suspended.
            VmmError: the snapshot is of another engine; it is as it was.
            HostError, OSError: the files could not be made; it is as it was.
            InternalError: it could not be started; it is suspended, as it was at the checkpoint.
        """
        async with self._lock:
            guest, state = self._guest, self.state()
            if state not in (MicrovmState.RUNNING, MicrovmState.SUSPENDED):
                raise ConflictError(f"The MicroVM {self.id} is in state {state}; wait until it has settled.")
            self.context.guests.check_engine(snapshot.engine)
            await asyncio.to_thread(checkpoint.prepare_rollback, snapshot, self.directory)
            if guest is not None:
                if not self._move(MicrovmState.SUSPENDING):
                    checkpoint.settle_rollback(self.directory, runs=True)
                    raise ConflictError(f"The MicroVM {self.id} is being terminated.")
                self.context.revoke(self.id)
                self._guest = None
                await guest.end()
            await self.context.guests.let_go(self.id)  # they are not those of the checkpoint
            await asyncio.to_thread(checkpoint.roll_back, self.directory)
            self._become_suspended()
            await self._resume()

    # --- end

    def start_lifetime(self) -> None:
        """Let its maximum duration count."""
        self._deadlines.start_lifetime(self.microvm)

    def _end_by_policy(self, reason: str) -> None:
        if reason == LIFETIME_OVER or self._guest is None:  # else it has just been resumed
            self.begin_to_terminate(reason)

    def begin_to_terminate(self, reason: str) -> bool:
        """Move it to TERMINATING at once, and end it in the background; False when that was done before."""
        with caused_by(TERMINATING_ACTORS.get(reason, present_cause().actor), reason):
            if not self.context.store.change_state(self.id, MicrovmState.TERMINATING, reason=reason):
                return False
            self.in_background(self._terminate(reason))
        return True

    async def _terminate(self, reason: str) -> None:
        async with self._lock:
            self.context.revoke(self.id)
            if self._guest is not None:
                await self._hooks.terminate(self._guest.agent)
            await self._end(reason)

    async def _end(self, reason: str) -> None:
        """Free everything it has, then say so."""
        self.context.revoke(self.id)
        guest, self._guest = self._guest, None
        self._idle.stop()
        self._deadlines.stop()
        if guest is not None:
            await guest.end()
        await self.context.guests.let_go(self.id)
        for splitter in self._splitters:
            splitter.finish()
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)
        self._move_surely(MicrovmState.TERMINATING)
        self._move_surely(MicrovmState.TERMINATED, reason=reason, terminated_at=datetime.now(UTC))
        log.info("%s has ended: %s", self.id, reason)
        self.context.on_ended(self.id)

    async def close(self) -> None:
        """Let go of it: the server stops. A guest that still runs could not be suspended, and ends here."""
        self._idle.stop()
        self._deadlines.stop()
        async with self._lock:
            guest, self._guest = self._guest, None
            if guest is not None:
                log.error("%s is lost: it could not be suspended when the server stopped", self.id)
                await guest.end()
            await self.context.guests.let_go(self.id)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what an earlier server left

    async def take_over(self, survivor: Survivor) -> None:
        """Go on with a VMM that an earlier server started; finish a resume that was under way, undo a suspend."""
        async with self._lock:
            resuming = self.microvm.state is MicrovmState.SUSPENDED
            if resuming:
                self._incarnation += 1
            started = time.monotonic()
            try:
                guest = await self.context.guests.adopt(
                    self._snapshot(), self.directory, survivor, self._take_output, resumes=resuming
                )
                self._saved_runs = load_resumed(self.directory).runs
            except (EmberboxError, OSError) as error:
                await self._end(f"{NOT_TAKEN_OVER} {error}")
                return
            await self._start_guest(guest)
            if resuming:
                await self._hooks.resume(guest.agent)
            self._move_surely(MicrovmState.RUNNING, new_incarnation=resuming)
            self._idle.start()
            log.info("%s was taken over in %.0f ms", self.id, (time.monotonic() - started) * 1000)

    def keep_suspended(self) -> None:
        """Take over a microVM that is suspended, though its row may not say so yet."""
        self._incarnation = self.microvm.incarnation
        if self.microvm.state is not MicrovmState.SUSPENDED:
            self.microvm = replace(self.microvm, suspended=Instant.now())
            self._move(MicrovmState.SUSPENDING)
            self._move_surely(MicrovmState.SUSPENDED, suspended=self.microvm.suspended)
        self._explanation = self.microvm.state_reason
        try:
            self.context.guests.check_engine(load_suspended(self.directory).engine)
        except (HostError, VmmError) as error:
            self._explain(f"The MicroVM cannot be resumed: {error}")
        self._deadlines.start_suspended(self.microvm)

    async def finish_termination(self, reason: str) -> None:
        """End what was being terminated, or what has no VMM any more."""
        async with self._lock:
            await self._end(reason)

    def _move(self, state: MicrovmState) -> bool:
        return self.context.store.change_state(self.id, state)

    def _move_surely(self, state: MicrovmState, **columns: Any) -> None:
        """Write what has happened already; where the database cannot be written now, as soon as it can be."""
        try:
            self.context.store.change_state(self.id, state, **columns)
        except HostError as error:
            log.error("%s is %s, but that cannot be stored yet: %s", self.id, state, error)
            self.in_background(self._move_later(state, columns))

    async def _move_later(self, state: MicrovmState, columns: dict[str, Any]) -> None:
        while True:
            await asyncio.sleep(RETRY_INTERVAL_S)
            with contextlib.suppress(HostError):
                self.context.store.change_state(self.id, state, **columns)
                return
