"""The operations on sandboxes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from emberbox.background import Background
from emberbox.control.microvms.commands import ForkMicrovm, RunMicrovm
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import Page, PageTokens
from emberbox.control.sandboxes.commands import ConnectSandbox, CreateSandbox, ForkSandbox, ListSandboxes
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.control.sandboxes.timeouts import Timeouts
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import ConflictError, InternalError, NotFoundError, ServiceError, ValidationError
from emberbox.model.launch_requests import Ingress
from emberbox.model.records import Microvm
from emberbox.model.sandboxes import TIMEOUT_MAX_S, Sandbox, SandboxTerms
from emberbox.model.states import MicrovmState
from emberbox.store.sandboxes import SandboxStore

log = logging.getLogger(__name__)

TIMEOUT_OVER: Final = "The sandbox's timeout is over."
_LIST: Final = "ListSandboxes"
_EARLY_S: Final = 0.5
_USE_NOTED_S: Final = 5.0
"""A use that moves a sandbox's end by less is not worth a row."""


class SandboxService:
    """Makes, tells of and ends sandboxes, and sees to their timeouts.

    Args:
        store: the rows.
        templates: finds images.
        microvms: has the microVMs.
        forks: forks them.
        runners: those that have not ended.
        timers: keeps the timeouts.
        page_tokens: for the list.
    """

    def __init__(
        self, *, store: SandboxStore, templates: TemplateFinder, microvms: MicrovmService, forks: ForkService,
        runners: Runners, timers: Timers, page_tokens: PageTokens,
    ) -> None:  # fmt: skip
        self._store = store
        self._templates = templates
        self._microvms = microvms
        self._forks = forks
        self._runners = runners
        self._timeouts = Timeouts(timers, self._end)
        self._page_tokens = page_tokens
        self._background = Background()
        self._kept_names: set[tuple[str, str]] = set()

    # --- the life of the service

    def watch_timeouts(self) -> None:
        """See to the timeouts of the sandboxes that an earlier server left."""
        for sandbox in self._store.list_live():
            if sandbox.is_paused and sandbox.microvm_state is not MicrovmState.SUSPENDED:
                self._store.set_paused(sandbox.id, paused=False)  # it was killed before the pause was done
            elif sandbox.is_paused and not sandbox.terms.deletes_after_s:
                continue
            self._timeouts.watch(sandbox.id, sandbox.ends_at)

    def forget_gone(self) -> None:
        """Remove the rows of sandboxes whose microVMs are forgotten."""
        self._store.forget_gone()

    async def close(self) -> None:
        """Stop what is under way."""
        await self._background.close()

    # --- new ones

    async def create(self, caller: Caller, asked: CreateSandbox) -> Sandbox:
        """Launch a sandbox, and return when it runs.

        Raises:
            ServiceError: it may not be launched, or could not.
        """
        check_timeout(asked.terms.timeout_s, most=asked.terms.timeout_max_s)
        with self._keep_name(caller, asked.terms.name):
            return await self._create(caller, asked)

    @contextlib.contextmanager
    def _keep_name(self, caller: Caller, name: str) -> Iterator[None]:
        """Let nobody else take a name while a sandbox is made that is to have it.

        Raises:
            ConflictError: a sandbox has it.
        """
        kept = (caller.account_id, name)
        if name and (kept in self._kept_names or self._store.find_named(*kept) is not None):
            raise ConflictError(f"name: there is a sandbox {name} already; delete it, or choose another name")
        if name:
            self._kept_names.add(kept)
        try:
            yield
        finally:
            self._kept_names.discard(kept)

    async def _create(self, caller: Caller, asked: CreateSandbox) -> Sandbox:
        template = self._templates.find(caller, asked.terms.template)
        microvm = await self._microvms.run(
            caller,
            RunMicrovm(
                image=template.image.name,
                named=asked.terms.template,
                version=template.version,
                ingress=(Ingress.HTTP, Ingress.SHELL),
                max_duration_s=asked.life_s,
                client_request=asked.client_request,
                inactive_too=template.is_snapshot,
            ),
        )
        self._adopt(microvm, asked.terms)
        return await self._wait_until_it_runs(caller, microvm.id)

    async def fork(self, caller: Caller, asked: ForkSandbox) -> list[Sandbox]:
        """Make sandboxes that go on from this instant of another, and return when they run.

        Raises:
            ServiceError: they may not be made, or could not.
        """
        check_timeout(asked.timeout_s)
        terms = replace(self.get(caller, asked.sandbox_id).terms, timeout_s=asked.timeout_s, name="")
        forks = await self._forks.fork(caller, ForkMicrovm(asked.sandbox_id, asked.count))
        for microvm in forks.microvms:
            self._adopt(microvm, terms)
        return [await self._wait_until_it_runs(caller, microvm.id) for microvm in forks.microvms]

    def _adopt(self, microvm: Microvm, terms: SandboxTerms) -> None:
        """Make a microVM a sandbox; one that cannot be stored as such ends, as nobody would end it later."""
        ends_at = _from_now(terms.timeout_s)
        try:
            is_new = self._store.add(microvm.id, microvm.account_id, terms, ends_at)
        except BaseException:
            runner = self._runners.find(microvm.id)
            if runner is not None:
                runner.begin_to_terminate("It could not be stored as a sandbox.")
            raise
        if is_new:  # else a request is repeated
            self._timeouts.watch(microvm.id, ends_at)

    async def _wait_until_it_runs(self, caller: Caller, sandbox_id: str) -> Sandbox:
        runner = self._runners.find(sandbox_id)
        started = None if runner is None else await runner.requests.wake()
        if started is None:
            reason = self._microvms.get(caller, sandbox_id).state_reason
            raise InternalError(f"The sandbox could not be started: {reason or 'its microVM has ended'}")
        return self.get(caller, sandbox_id)

    # --- those that there are

    def get(self, caller: Caller, sandbox_id: str) -> Sandbox:
        """Return a sandbox of the caller's account that has not ended.

        Raises:
            NotFoundError: there is none.
        """
        found = self._store.find(sandbox_id)
        if found is None or found.account_id != caller.account_id or found.has_ended:
            raise NotFoundError(f"Sandbox {sandbox_id} not found")
        return found

    def find_named(self, caller: Caller, name: str) -> Sandbox | None:
        """Return a sandbox of the caller's account that has not ended, by its name; None where there is none."""
        return self._store.find_named(caller.account_id, name)

    def list_sandboxes(self, caller: Caller, asked: ListSandboxes) -> Page[Sandbox]:
        """Return sandboxes of the caller's account.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        after = self._page_tokens.open_moment(_LIST, asked.page.token)
        found = [sandbox for sandbox in self._store.list_live(caller.account_id) if _is_asked_for(sandbox, asked)]
        if asked.oldest_first:
            found.reverse()
        if after is not None:
            found = [sandbox for sandbox in found if _is_behind(sandbox, after, oldest_first=asked.oldest_first)]
        page, token = found[: asked.page.limit], None
        if len(found) > asked.page.limit:
            token = self._page_tokens.seal(_LIST, [page[-1].started_at.timestamp(), page[-1].id])
        return Page(page, token)

    def set_timeout(self, caller: Caller, sandbox_id: str, timeout_s: int) -> None:
        """Let a sandbox that runs end so many seconds from now, be that earlier or later than before.

        Raises:
            NotFoundError: there is none, or it is paused.
            ValidationError: there is no such timeout.
        """
        check_timeout(timeout_s, least=0)
        sandbox = self.get(caller, sandbox_id)
        if sandbox.is_paused:
            raise NotFoundError(f"Sandbox {sandbox_id} is paused: connect to it first")
        self._set_end(sandbox_id, _from_now(timeout_s), timeout_s)

    async def connect(self, caller: Caller, asked: ConnectSandbox) -> tuple[Sandbox, bool]:
        """Let a sandbox run for some time yet, and say whether it was paused until now.

        Raises:
            ServiceError: there is none, or it cannot be resumed.
        """
        check_timeout(asked.timeout_s)
        sandbox = self.get(caller, asked.sandbox_id)
        ends_at, was_paused = _from_now(asked.timeout_s), sandbox.is_paused
        if was_paused:
            await self._resume(sandbox.id)
        if was_paused or ends_at > sandbox.ends_at:
            self._set_end(sandbox.id, ends_at, asked.timeout_s)
        return self.get(caller, sandbox.id), was_paused

    async def resume(self, caller: Caller, sandbox_id: str) -> Sandbox:
        """Let a sandbox run for as long as its timeout is; return when it does.

        Raises:
            ServiceError: there is none, or it cannot be resumed.
        """
        sandbox = self.get(caller, sandbox_id)
        await self._resume(sandbox.id)
        self._set_end(sandbox.id, _from_now(sandbox.terms.timeout_s), sandbox.terms.timeout_s)
        return self.get(caller, sandbox.id)

    def set_terms(self, caller: Caller, sandbox_id: str, terms: SandboxTerms) -> Sandbox:
        """Change what a sandbox is to be; its timeout begins anew, be that of its running or of its pause.

        Raises:
            NotFoundError: there is none.
            ValidationError: there is no such timeout.
        """
        check_timeout(terms.timeout_s, most=terms.timeout_max_s)
        sandbox = self.get(caller, sandbox_id)
        ends_at = _from_now(terms.deletes_after_s if sandbox.is_paused else terms.timeout_s)
        self._store.set_terms(sandbox.id, terms, ends_at)
        if sandbox.is_paused and not terms.deletes_after_s:
            self._timeouts.cancel(sandbox.id)
        else:
            self._timeouts.watch(sandbox.id, ends_at)
        return self.get(caller, sandbox.id)

    def note_use(self, sandbox: Sandbox) -> None:
        """A request has come to a sandbox: its end moves, where that is what its user has asked for."""
        ends_at = _from_now(sandbox.terms.timeout_s)
        is_worth_it = (ends_at - sandbox.ends_at).total_seconds() >= _USE_NOTED_S
        if sandbox.terms.moves_with_use and not sandbox.is_paused and is_worth_it:
            self._set_end(sandbox.id, ends_at, sandbox.terms.timeout_s)

    async def pause(self, caller: Caller, sandbox_id: str) -> None:
        """Save a sandbox and end its VMM; return when that is done.

        Raises:
            ConflictError: it is paused already.
            ServiceError: there is none, or it could not be saved.
        """
        sandbox = self.get(caller, sandbox_id)
        if sandbox.is_paused:
            raise ConflictError(f"Sandbox {sandbox_id} is paused already")
        await self._pause(sandbox.id)

    def kill(self, caller: Caller, sandbox_id: str) -> None:
        """Begin to end a sandbox.

        Raises:
            NotFoundError: there is none.
        """
        self._microvms.terminate(caller, self.get(caller, sandbox_id).id)
        self._timeouts.cancel(sandbox_id)

    # --- changes

    async def let_run(self, sandbox: Sandbox) -> bool:
        """Resume a sandbox for a request, where that may be; say whether it may run."""
        if not sandbox.is_paused:
            return await self._resume(sandbox.id)  # the server was stopped meanwhile
        if not (sandbox.terms.pauses_itself and sandbox.terms.resumes_itself):
            return False
        is_running = await self._resume(sandbox.id)
        if is_running:
            self._set_end(sandbox.id, _from_now(sandbox.terms.timeout_s), sandbox.terms.timeout_s)
        return is_running

    async def _resume(self, sandbox_id: str) -> bool:
        runner = self._runners.find(sandbox_id)
        if runner is None:
            return False
        with caused_by(Actor.REQUEST, "A client wants the sandbox to run."):
            await runner.resume()
        return True

    async def _pause(self, sandbox_id: str) -> None:
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
        ends_at = _from_now(deletes_after_s) if deletes_after_s else None
        self._store.set_paused(sandbox.id, paused=True, ends_at=ends_at)
        if ends_at is not None:
            self._timeouts.watch(sandbox.id, ends_at)

    # --- timeouts

    def _set_end(self, sandbox_id: str, ends_at: datetime, timeout_s: int) -> None:
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
            await self._pause(sandbox_id)
        except ServiceError as error:
            log.error("%s could not be paused at the end of its timeout: %s", sandbox_id, error)
            self._timeouts.try_again(sandbox_id)


def check_timeout(timeout_s: int, least: int = 1, most: int = TIMEOUT_MAX_S) -> None:
    """Check a timeout.

    Raises:
        ValidationError: there is no such timeout.
    """
    if not least <= timeout_s <= most:
        raise ValidationError(f"timeout must be {least} to {most} seconds, not {timeout_s}")


def _from_now(seconds: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _is_behind(sandbox: Sandbox, after: tuple[datetime, str], *, oldest_first: bool) -> bool:
    place = (sandbox.started_at, sandbox.id)
    return place > after if oldest_first else place < after


def _is_asked_for(sandbox: Sandbox, asked: ListSandboxes) -> bool:
    metadata = sandbox.terms.metadata or {}
    return (
        sandbox.state in asked.states
        and sandbox.id.lower().startswith(asked.id_prefix.lower())
        and (sandbox.terms.name or sandbox.id).lower().startswith(asked.name_prefix.lower())
        and asked.template in (None, sandbox.terms.template, sandbox.image_id)
        and (asked.started_after is None or sandbox.started_at >= asked.started_after)
        and all(metadata.get(name) == value for name, value in asked.metadata.items())
    )
