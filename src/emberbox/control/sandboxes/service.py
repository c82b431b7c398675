"""The operations on sandboxes."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final

from emberbox.control.microvms.commands import ForkMicrovm, RunMicrovm
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import Page, PageTokens
from emberbox.control.sandboxes.commands import ConnectSandbox, CreateSandbox, ForkSandbox, ListSandboxes
from emberbox.control.sandboxes.ends import SandboxEnds, from_now
from emberbox.control.sandboxes.kept_names import KeptNames
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.model.caller import Caller
from emberbox.model.errors import ConflictError, InternalError, NotFoundError, ValidationError
from emberbox.model.launch_requests import Ingress
from emberbox.model.records import Microvm
from emberbox.model.sandboxes import TIMEOUT_MAX_S, Sandbox, SandboxTerms
from emberbox.store.sandboxes import SandboxStore

log = logging.getLogger(__name__)

_LIST: Final = "ListSandboxes"


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
        self._ends = SandboxEnds(store, runners, timers)
        self._names = KeptNames(store)
        self._page_tokens = page_tokens

    # --- the life of the service

    def watch_timeouts(self) -> None:
        """See to the timeouts of the sandboxes that an earlier server left."""
        self._ends.watch_left()

    def forget_gone(self) -> None:
        """Remove the rows of sandboxes whose microVMs are forgotten."""
        self._store.forget_gone()

    async def close(self) -> None:
        """Stop what is under way."""
        await self._ends.close()

    # --- new ones

    async def create(self, caller: Caller, asked: CreateSandbox) -> Sandbox:
        """Launch a sandbox, and return when it runs.

        Raises:
            ServiceError: it may not be launched, or could not.
        """
        check_timeout(asked.terms.timeout_s, most=asked.terms.timeout_max_s)
        with self._names.keep(caller.account_id, asked.terms.name):
            return await self._create(caller, asked)

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
        ends_at = from_now(terms.timeout_s)
        try:
            is_new = self._store.add(microvm.id, microvm.account_id, terms, ends_at)
        except BaseException:
            runner = self._runners.find(microvm.id)
            if runner is not None:
                runner.begin_to_terminate("It could not be stored as a sandbox.")
            raise
        if is_new:  # else a request is repeated
            self._ends.watch(microvm.id, ends_at)

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

    def get_called(self, caller: Caller, called: str) -> Sandbox:
        """Return a sandbox of the caller's account that has not ended, by its id, or else by its name.

        Raises:
            NotFoundError: there is none.
        """
        try:
            return self.get(caller, called)
        except NotFoundError:
            found = self._store.find_named(caller.account_id, called) if called else None
            if found is None:
                raise
            return found

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
        self._ends.move(sandbox_id, from_now(timeout_s), timeout_s)

    async def connect(self, caller: Caller, asked: ConnectSandbox) -> tuple[Sandbox, bool]:
        """Let a sandbox run for some time yet, and say whether it was paused until now.

        Raises:
            ServiceError: there is none, or it cannot be resumed.
        """
        check_timeout(asked.timeout_s)
        sandbox = self.get(caller, asked.sandbox_id)
        ends_at, was_paused = from_now(asked.timeout_s), sandbox.is_paused
        if was_paused:
            await self._ends.resume(sandbox.id)
        if was_paused or ends_at > sandbox.ends_at:
            self._ends.move(sandbox.id, ends_at, asked.timeout_s)
        return self.get(caller, sandbox.id), was_paused

    async def resume(self, caller: Caller, sandbox_id: str) -> Sandbox:
        """Let a sandbox run for as long as its timeout is; return when it does.

        Raises:
            ServiceError: there is none, or it cannot be resumed.
        """
        sandbox = self.get(caller, sandbox_id)
        await self._ends.resume(sandbox.id)
        self._ends.move(sandbox.id, from_now(sandbox.terms.timeout_s), sandbox.terms.timeout_s)
        return self.get(caller, sandbox.id)

    def set_terms(self, caller: Caller, sandbox_id: str, terms: SandboxTerms) -> Sandbox:
        """Change what a sandbox is to be; a timeout that changes begins anew.

        Raises:
            NotFoundError: there is none.
            ValidationError: there is no such timeout.
        """
        check_timeout(terms.timeout_s, most=terms.timeout_max_s)
        sandbox = self.get(caller, sandbox_id)
        self._ends.set_terms(sandbox, terms)
        return self.get(caller, sandbox.id)

    async def pause(self, caller: Caller, sandbox_id: str) -> None:
        """Save a sandbox and end its VMM; return when that is done.

        Raises:
            ConflictError: it is paused already.
            ServiceError: there is none, or it could not be saved.
        """
        sandbox = self.get(caller, sandbox_id)
        if sandbox.is_paused:
            raise ConflictError(f"Sandbox {sandbox_id} is paused already")
        await self._ends.pause(sandbox.id)

    def kill(self, caller: Caller, sandbox_id: str) -> None:
        """Begin to end a sandbox.

        Raises:
            NotFoundError: there is none.
        """
        self._microvms.terminate(caller, self.get(caller, sandbox_id).id)
        self._ends.cancel(sandbox_id)

    def note_use(self, sandbox: Sandbox) -> None:
        """A request has come to a sandbox: its end moves, where that is what its user has asked for."""
        self._ends.note_use(sandbox)

    async def let_run(self, sandbox: Sandbox) -> bool:
        """Resume a sandbox for a request, where that may be; say whether it may run."""
        return await self._ends.let_run(sandbox)


def check_timeout(timeout_s: int, least: int = 1, most: int = TIMEOUT_MAX_S) -> None:
    """Check a timeout.

    Raises:
        ValidationError: there is no such timeout.
    """
    if not least <= timeout_s <= most:
        raise ValidationError(f"timeout must be {least} to {most} seconds, not {timeout_s}")


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
