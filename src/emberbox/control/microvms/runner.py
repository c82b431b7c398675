"""What can be asked of the owner of one microVM.

One object per microVM that is not TERMINATED. Each call is a message to its owner, who makes all changes of it, one at
a time (`owner.py`); what becomes of a message is a table (`decide.py`); what it does is in the module of its name, and
what that changes is in `life.py`. What must hold whatever fails is in docs/crash-safety.md.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from emberbox.background import Background
from emberbox.control.access.role_sessions import RoleSession
from emberbox.control.microvms import checkpoints
from emberbox.control.microvms.deadlines import LIFETIME_OVER, Deadlines
from emberbox.control.microvms.decide import Wanted
from emberbox.control.microvms.egress import renew_egress
from emberbox.control.microvms.end import begin_to_terminate, end, let_go
from emberbox.control.microvms.idle import IdleTimer
from emberbox.control.microvms.launch import launch
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.owner import Owner
from emberbox.control.microvms.requests import Requests
from emberbox.control.microvms.resume import resume_if_suspended
from emberbox.control.microvms.row import MicrovmRow
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.settle import settle
from emberbox.control.microvms.stall import Stall
from emberbox.control.microvms.suspend import end_idleness, suspend
from emberbox.control.microvms.take_over import keep_suspended, take_over, wait_to_be_adopted
from emberbox.machine.base import Keeper, LineLog
from emberbox.model import logs
from emberbox.model.errors import EmberboxError
from emberbox.model.records import ImageVersion, LogGroup, Microvm
from emberbox.model.usage import Usage
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

STOPS_WITHIN_S: Final = limit_s(150.0)
"""What is under way when the server stops, and then the suspend, may take so long: each may wait for a hook."""

ENDED_BY_CALLER: Final = "Success."
LOST: Final = "The MicroVM's VMM ended while no Emberbox server was running."


class MicrovmRunner:
    """One microVM, for those who ask something of it.

    Attributes:
        context: what all share.
        version: the image version that it runs.
        requests: what comes to it at its endpoint.

    Args:
        context: see there.
        microvm: the row as it was when the runner was made.
        version: the image version it runs.
        log_group: where its output goes; None drops it.
        log_stream_name: the stream there; None makes one in AWS's form.
    """

    def __init__(
        self, context: RunnerContext, microvm: Microvm, version: ImageVersion, log_group: LogGroup | None,
        log_stream_name: str | None = None,
    ) -> None:  # fmt: skip
        self.context = context
        self.version = version
        output = None
        if log_group is not None:
            stream = log_stream_name or logs.log_stream_name(version.version, microvm.id)
            output = context.log_writer.stream(log_group, stream)
        background = Background()
        row = MicrovmRow(context.store, microvm, background)
        policy = microvm.request.idle_policy
        self._life = Life(
            context=context,
            microvm=microvm,
            version=version,
            keeper=self._make_keeper(microvm, output),
            row=row,
            stall=Stall(microvm.id, context.store, context.room),
            owner=Owner(microvm.id, lambda: row.known, lambda error: settle(self._life, error)),
            idle=IdleTimer(context.timers, microvm.id, policy, self._note_idleness),
            deadlines=Deadlines(context.timers, microvm.id, self._end_by_policy),
            background=background,
            incarnation=microvm.incarnation - 1,  # a launch or a take-over makes it that of the row
        )
        self.requests = Requests(self._life)

    def _make_keeper(self, microvm: Microvm, output: LineLog | None) -> Keeper:
        issue, role = self.context.issue_credentials, microvm.request.execution_role
        session = RoleSession(issue, microvm.account_id, role, microvm.id)
        return Keeper(output, session.credentials, lambda: wait_to_be_adopted(self._life))

    @property
    def id(self) -> str:
        """The microVM's id."""
        return self._life.id

    @property
    def microvm(self) -> Microvm:
        """Its row, as far as it never changes."""
        return self._life.microvm

    @property
    def stalled(self) -> str | None:
        """Why it stands still though it is RUNNING; None when it does not."""
        return self._life.stall.reason

    def measure(self) -> Usage:
        """Return what it costs the machine now; takes some milliseconds.

        Raises:
            OSError, VmmError: it is just being started or ended.
        """
        return self.context.machine.measure(self.id)

    # --- messages from callers

    def begin_to_launch(self) -> None:
        """Start it from its image's snapshot and call /run; what fails ends it with a reason."""
        self._life.owner.tell(Wanted.LAUNCH, lambda: launch(self._life))

    async def suspend(self) -> None:
        """Call /suspend, save it and end its VMM. When it cannot be saved it runs on.

        Raises:
            InternalError: it could not be saved; the text says why.
            ConflictError: its /suspend hook failed, and its image's tag says that it is to run on; or it stands still.
        """
        self._life.stall.check()
        await self._life.owner.ask(Wanted.SUSPEND, lambda: suspend(self._life))

    async def resume(self) -> None:
        """Start it where it was, and call /resume.

        Raises:
            InternalError: it could not be started; it is still suspended, with all it had.
        """
        await self._life.owner.ask(Wanted.RESUME, lambda: resume_if_suspended(self._life))

    async def take_checkpoint(self, name: str) -> float:
        """Snapshot it at one instant, running or suspended; it goes on as it was.

        Args:
            name: what the snapshot is called until it is kept or dropped (`Checkpoints`).

        Returns:
            how many seconds the application stood still.

        Raises:
            ConflictError: it neither runs nor is suspended, or stands still.
            GuestError, VmmError, HostError, OSError: it could not be taken.
        """
        self._life.stall.check()
        stopped_s = await self._life.owner.ask(Wanted.CHECKPOINT, lambda: checkpoints.take(self._life, name))
        assert stopped_s is not None, "what is not refused is done"
        log.info("%s stood still for %.0f ms for a snapshot", self.id, stopped_s * 1000)
        await self.context.checkpoints.publish(name)
        return stopped_s

    async def roll_back(self, version: str) -> None:
        """Make it what it was at a checkpoint of its own, and run it from there; what came after is lost.

        Args:
            version: the version of its image that the checkpoint is.

        Raises:
            ConflictError: it neither runs nor is suspended.
            VmmError: the snapshot is of another engine; it is as it was.
            HostError, OSError: the files could not be made; it is as it was.
            InternalError: it could not be started; it is suspended, as it was at the checkpoint.
        """
        await self._life.owner.ask(Wanted.ROLL_BACK, lambda: checkpoints.roll_back(self._life, version))

    async def renew_egress(self) -> None:
        """Let what its connector allows now count at once; where that is not known any more, it reaches nothing."""
        await self._life.owner.ask(Wanted.RESTRICT, lambda: renew_egress(self._life))

    def begin_to_terminate(self, reason: str) -> bool:
        """Move it to TERMINATING at once, and end it in the background; False when that was done before.

        Raises:
            HostError: the database cannot be written; it goes on.
        """
        return begin_to_terminate(self._life, reason)

    # --- messages from timers

    def start_lifetime(self) -> None:
        """Let its maximum duration count."""
        self._life.deadlines.start_lifetime(self.microvm)

    def _end_by_policy(self, reason: str) -> None:
        if self._life.stops:
            return  # the next server finds it due
        if reason == LIFETIME_OVER or self._life.run is None:  # else it has just been resumed
            self.begin_to_terminate(reason)

    def _note_idleness(self) -> None:
        if not self._life.owner.tell(Wanted.SUSPEND_IDLE, lambda: end_idleness(self._life)):
            self._life.idle.restart()  # it is tried again after the next idle time

    # --- the start and the stop of a server

    def begin_to_take_over(self) -> None:
        """Go on with a VMM that an earlier server started; finish a resume that was under way, undo a suspend."""
        self._life.owner.tell(Wanted.TAKE_OVER, lambda: take_over(self._life))

    def keep_suspended(self) -> None:
        """Take over a microVM that is suspended, though its row may not say so yet."""
        keep_suspended(self._life)

    def begin_to_finish(self, reason: str) -> None:
        """End what was being terminated, or what has no VMM any more."""
        self._life.owner.tell(Wanted.END, lambda: end(self._life, reason))

    async def stop(self) -> None:
        """Suspend it and let go of it, as the server stops; what is under way comes to its end before.

        A guest that cannot be suspended ends: without a server it would have neither owner nor endpoint. But where only
        room on the disk is lacking, its VMM runs on, as after a kill, and the next server takes it over.
        """
        life = self._life
        life.stops = True
        life.stall.give_up()
        life.idle.stop()
        life.deadlines.stop()
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                await life.owner.ask(Wanted.SAVE, lambda: suspend(life, server_stops=True))
        except (EmberboxError, OSError) as error:  # TimeoutError among them
            log.error("%s: %s", self.id, str(error) or f"it was not suspended within {STOPS_WITHIN_S:g} s")
        except Exception:
            log.exception("%s could not be suspended", self.id)
        await life.background.close()  # the watch first: it may send messages
        await life.owner.close()
        await let_go(life)  # not in line: nothing else is under way any more, and nothing is begun
        await life.background.close()
