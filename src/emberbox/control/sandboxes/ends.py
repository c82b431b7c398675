"""When sandboxes pause and end: their timeouts, which move, and what is done when they are over."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from emberbox.background import Background
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.timers import Timers
from emberbox.control.sandboxes.timeouts import Timeouts
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import NotFoundError, ServiceError
from emberbox.model.sandboxes import Sandbox, SandboxTerms
from emberbox.model.states import MicrovmState
from emberbox.store.sandboxes import SandboxStore

log = logging.getLogger(__name__)

TIMEOUT_OVER: Final = "The sandbox's timeout is over."
_EARLY_S: Final = 0.5
_USE_NOTED_S: Final = 5.0
"""A use that moves a sandbox's end by less is not worth a row."""


class SandboxEnds:
    """Sees to them.

    Args:
        store: the rows.
        runners: the microVMs that have not ended.
        timers: keeps the timeouts.
    """

    def __init__(self, store: SandboxStore, runners: Runners, timers: Timers) -> None:
        self._store = store
        self._runners = runners
        self._timeouts = Timeouts(timers, self._end)
        self._background = Background()

    def watch_left(self) -> None:
        """See to the timeouts of the sandboxes that an earlier server left."""
        for sandbox in self._store.list_live():
            if sandbox.is_paused and sandbox.microvm_state is not MicrovmState.SUSPENDED:
                self._store.set_paused(sandbox.id, paused=False)  # it was killed before the pause was done
            elif sandbox.is_paused and not sandbox.terms.deletes_after_s:
                continue
            self._timeouts.watch(sandbox.id, sandbox.ends_at)

    def watch(self, sandbox_id: str, ends_at: datetime) -> None:
        """See to the end of a sandbox, as its row has it."""
        self._timeouts.watch(sandbox_id, ends_at)

    def cancel(self, sandbox_id: str) -> None:
        """See to the end of a sandbox no more."""
        self._timeouts.cancel(sandbox_id)

    async def close(self) -> None:
        """Stop what is under way."""
        await self._background.close()

    def note_use(self, sandbox: Sandbox) -> None:
        """A request has come to a sandbox: its end moves, where that is what its user has asked for."""
        ends_at = from_now(sandbox.terms.timeout_s)
        is_worth_it = (ends_at - sandbox.ends_at).total_seconds() >= _USE_NOTED_S
        if sandbox.terms.moves_with_use and not sandbox.is_paused and is_worth_it:
            self.move(sandbox.id, ends_at, sandbox.terms.timeout_s)

    def set_terms(self, sandbox: Sandbox, terms: SandboxTerms) -> None:
        """Change what a sandbox is to be; a timeout that changes begins anew, of its running or of its pause."""
        old, ends_at = sandbox.terms, sandbox.ends_at
        counts, counted = (
            (terms.deletes_after_s, old.deletes_after_s) if sandbox.is_paused else (terms.timeout_s, old.timeout_s)
        )
        if counts != counted:
            ends_at = from_now(counts)
        self._store.set_terms(sandbox.id, terms, ends_at)
        if sandbox.is_paused and not terms.deletes_after_s:
            self._timeouts.cancel(sandbox.id)
        else:
            self._timeouts.watch(sandbox.id, ends_at)

    async def let_run(self, sandbox: Sandbox) -> bool:
        """Resume a sandbox for a request, where that may be; say whether it may run."""
        if not sandbox.is_paused:
            return await self.resume(sandbox.id)  # the server was stopped meanwhile
        if not (sandbox.terms.pauses_itself and sandbox.terms.resumes_itself):
            return False
        is_running = await self.resume(sandbox.id)
        if is_running:
            self.move(sandbox.id, from_now(sandbox.terms.timeout_s), sandbox.terms.timeout_s)
        return is_running

    async def resume(self, sandbox_id: str) -> bool:
        """Let a sandbox run; say whether it is there.

        Raises:
            ServiceError: it cannot be resumed.
        """
        runner = self._runners.find(sandbox_id)
        if runner is None:
            return False
        with caused_by(Actor.REQUEST, "A client wants the sandbox to run."):
            await runner.resume()
        return True

    async def pause(self, sandbox_id: str) -> None:
        """Save a sandbox and end its VMM; return when that is done.

        Raises:
            ServiceError: there is none, or it could not be saved.
        """
        runner = self._runners.find(sandbox_id)
        if runner is None:
            raise NotFoundError(f"Sandbox {sandbox_id} not found")
        sandbox = self._store.find(sandbox_id)
        if sandbox is not None:
            self._set_paused(sandbox)  # before: no request may wake it under way
        try:
            await self._background.see_through(runner.suspend(), f"the pause of {sandbox_id}")
        except ServiceError:
            self._store.set_paused(sandbox_id, paused=False, ends_at=None if sandbox is None else sandbox.ends_at)
            raise
        if sandbox is None or not sandbox.terms.deletes_after_s:
            self._timeouts.cancel(sandbox_id)

    def _set_paused(self, sandbox: Sandbox) -> None:
        """Store that a sandbox is paused; one that ends some time after that is seen to."""
        deletes_after_s = sandbox.terms.deletes_after_s
        ends_at = from_now(deletes_after_s) if deletes_after_s else None
        self._store.set_paused(sandbox.id, paused=True, ends_at=ends_at)
        if ends_at is not None:
            self._timeouts.watch(sandbox.id, ends_at)

    def move(self, sandbox_id: str, ends_at: datetime, timeout_s: int) -> None:
        """Move a sandbox's end, and let it be one that is not paused."""
        self._store.set_end(sandbox_id, ends_at, timeout_s)
        self._timeouts.watch(sandbox_id, ends_at)

    def _end(self, sandbox_id: str) -> None:
        """Its timeout is over, unless it has been moved meanwhile."""
        sandbox = self._store.find(sandbox_id)
        runner = self._runners.find(sandbox_id)
        if sandbox is None or runner is None or (sandbox.is_paused and not sandbox.terms.deletes_after_s):
            return
        if (sandbox.ends_at - datetime.now(UTC)).total_seconds() > _EARLY_S:
            self._timeouts.watch(sandbox_id, sandbox.ends_at)
            return
        with caused_by(Actor.TIMER, TIMEOUT_OVER):
            if sandbox.is_paused or not sandbox.terms.pauses_itself:
                runner.begin_to_terminate(TIMEOUT_OVER)
            elif sandbox.microvm_state is MicrovmState.SUSPENDED:
                self._set_paused(sandbox)
            else:
                self._background.start(self._pause_itself(sandbox_id), f"the pause of {sandbox_id}")

    async def _pause_itself(self, sandbox_id: str) -> None:
        try:
            await self.pause(sandbox_id)
        except ServiceError as error:
            log.error("%s could not be paused at the end of its timeout: %s", sandbox_id, error)
            self._timeouts.try_again(sandbox_id)


def from_now(seconds: int) -> datetime:
    """Return the moment so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)
