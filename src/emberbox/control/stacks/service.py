"""Stacks: made, changed and deleted in the background, as whoever asked; described meanwhile."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from emberbox.background import Background, in_thread
from emberbox.control.access.delegation import Delegates
from emberbox.control.requests.paging import Page, PageTokens
from emberbox.control.stacks.commands import CreateStack, DeleteStack, RollbackStack, ShapeRequest, UpdateStack
from emberbox.control.stacks.desk import Desk, stack_event
from emberbox.control.stacks.engine import StackEngine
from emberbox.control.stacks.exports import Exports
from emberbox.control.stacks.kinds import ResourceKinds
from emberbox.control.stacks.plans import plan
from emberbox.control.stacks.rollbacks import WAYS_BACK, lead_back
from emberbox.control.stacks.shapes import FindStored, Shaper
from emberbox.control.stacks.steps import Steps
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, QuotaExceededError, ServiceError, ValidationError
from emberbox.model.stacks.records import (
    Acting,
    Before,
    PlannedChange,
    Stack,
    StackEvent,
    StackOutput,
    StackShape,
    Work,
)
from emberbox.model.stacks.states import UPDATABLE, StackStatus
from emberbox.model.stacks.template import Template, parse_template
from emberbox.store.stacks import StackStore

STACKS_MAX: Final = 2000
"""Stacks of an account ("CloudFormation quotas")."""

PAGE_EVENTS: Final = 100
DELETED_KEPT: Final = timedelta(days=90)
"""For so long deleted stacks are listed, as on AWS."""

_EVENTS: Final = "DescribeStackEvents"


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template, and what a sender must acknowledge of it."""

    template: Template
    capabilities: tuple[str, ...]


class StackService:
    """Makes, changes, deletes and tells of stacks.

    Args:
        store: the rows.
        delegates: acts as whoever asked.
        find_stored: looks stored parameters up.
        page_tokens: for the lists.
        region: the region played, for ARNs.
    """

    def __init__(
        self, store: StackStore, delegates: Delegates, find_stored: FindStored, page_tokens: PageTokens, region: str
    ) -> None:
        self._store = store
        self._delegates = delegates
        self._find_stored = find_stored
        self._page_tokens = page_tokens
        self._region = region
        self._exports = Exports(store)
        self._background = Background()
        self._kinds: ResourceKinds | None = None

    @contextlib.asynccontextmanager
    async def work(self, kinds: ResourceKinds) -> AsyncIterator[None]:
        """Work on stacks for as long as the block lasts: first on those that an earlier server left unfinished."""
        self._kinds = kinds
        self._store.forget_deleted(datetime.now(UTC) - DELETED_KEPT)
        for stack in self._store.list_unfinished():
            self._start(stack)
        try:
            yield
        finally:
            await self._background.close()
            self._kinds = None

    @property
    def kinds(self) -> ResourceKinds:
        """Does what is to be done with resources.

        Raises:
            ServiceError: nobody does any more, as the server stops.
        """
        if self._kinds is None:
            raise ServiceError("The server does not work on stacks now; try again")
        return self._kinds

    @property
    def shaper(self) -> Shaper:
        """Makes shapes of requests."""
        return Shaper(self.kinds, self._delegates, self._find_stored)

    # --- changes

    async def create(self, caller: Caller, asked: CreateStack) -> Stack:
        """Begin to make a stack.

        Raises:
            AlreadyExistsError: there is one of the name.
            ValidationError, CapabilitiesError, QuotaExceededError: see `Shaper.make`; there are too many.
        """
        if self._store.find(caller.account_id, asked.name) is not None:
            raise AlreadyExistsError(f"Stack [{asked.name}] already exists")
        shape, template = await self.shaper.make(caller, asked.shape, None)
        stack = self.new_stack(caller, asked.name, shape, StackStatus.CREATE_IN_PROGRESS)
        work = Work(self._remember(caller, shape.role_arn), asked.token, asked.on_failure)
        stack = replace(
            stack, reason="User Initiated", work=work, is_protected=asked.is_protected,
            disable_rollback=asked.on_failure == "DO_NOTHING",
        )  # fmt: skip
        await self.plan(template, stack)
        self.add(stack)
        self._start(stack)
        return stack

    def new_stack(self, caller: Caller, name: str, shape: StackShape, status: StackStatus) -> Stack:
        """Return a stack that is not stored yet.

        Raises:
            QuotaExceededError: the account has too many.
        """
        if len(self._store.list_stacks(caller.account_id)) >= STACKS_MAX:
            raise QuotaExceededError(f"Limit for stacks has been exceeded: an account has {STACKS_MAX} at most")
        arn = f"arn:aws:cloudformation:{self._region}:{caller.account_id}:stack/{name}/{uuid.uuid4()}"
        return Stack(arn, caller.account_id, name, status, datetime.now(UTC), shape)

    def add(self, stack: Stack) -> None:
        """Store a new stack.

        Raises:
            AlreadyExistsError: there is one of the name meanwhile.
        """
        if not self._store.add(stack, [stack_event(stack)]):
            raise AlreadyExistsError(f"Stack [{stack.name}] already exists")

    async def update(self, caller: Caller, asked: UpdateStack) -> Stack:
        """Begin to change a stack.

        Raises:
            ValidationError: there is no such stack, it cannot be changed now, or nothing would be.
            CapabilitiesError: see `Shaper.make`.
        """
        stack = self.get(caller, asked.name)
        check_updatable(stack)
        shape, template = await self.shaper.make(caller, asked.shape, stack.shape)
        planned = replace(stack, shape=shape)
        changes, outputs = await self.plan(template, planned)
        if not changes and outputs == stack.outputs and shape.tags == stack.shape.tags:
            raise ValidationError("No updates are to be performed.")
        return self.begin_update(caller, stack, shape, disable_rollback=asked.disable_rollback, token=asked.token)

    def begin_update(
        self, caller: Caller, stack: Stack, shape: StackShape, *, disable_rollback: bool, token: str | None,
        change_set_id: str | None = None,
    ) -> Stack:  # fmt: skip
        """Begin to make a stack what a shape says.

        Raises:
            ValidationError: it is being changed already.
        """
        leftovers = () if stack.work is None else stack.work.leftovers
        acting = self._remember(caller, shape.role_arn)
        changed = replace(
            stack, status=StackStatus.UPDATE_IN_PROGRESS, reason="User Initiated", shape=shape,
            updated_at=datetime.now(UTC), disable_rollback=disable_rollback, change_set_id=change_set_id,
            work=Work(acting, token, before=_last_whole(stack), leftovers=leftovers),
        )  # fmt: skip
        self._begin(changed, stack.status)
        return changed

    def roll_back(self, caller: Caller, asked: RollbackStack) -> Stack:
        """Begin to undo what has failed and was left as it was: a creation, or updates since the stack was last whole.

        Raises:
            ValidationError: there is no such stack, or nothing of the kind has happened to it.
        """
        stack = self.get(caller, asked.name)
        status = WAYS_BACK.get(stack.status)
        if status is None or stack.work is None:
            raise _busy(stack, "rolled back")
        resources, work = stack.resources, stack.work
        if work.before is not None:
            resources, work = lead_back(stack)
        acting = self._remember(caller, asked.role_arn or stack.shape.role_arn)
        changed = replace(
            stack, status=status, reason="User Initiated", resources=resources,
            work=replace(work, acting=acting, token=asked.token),
        )  # fmt: skip
        self._begin(changed, stack.status)
        return changed

    def begin_creation(
        self, caller: Caller, stack: Stack, shape: StackShape, on_failure: str, token: str | None, change_set_id: str
    ) -> Stack:
        """Begin to make a stack that a change set has asked for.

        Raises:
            ValidationError: it is being made already.
        """
        changed = replace(
            stack, status=StackStatus.CREATE_IN_PROGRESS, reason="User Initiated", shape=shape,
            disable_rollback=on_failure == "DO_NOTHING", change_set_id=change_set_id,
            work=Work(self._remember(caller, shape.role_arn), token, on_failure),
        )  # fmt: skip
        self._begin(changed, stack.status)
        return changed

    def delete(self, caller: Caller, asked: DeleteStack) -> None:
        """Begin to delete a stack; one that is not there is no error.

        Raises:
            ValidationError: it is protected or being changed, or another one imports what it exports.
        """
        stack = self._store.find(caller.account_id, asked.name)
        if stack is None or stack.deleted_at is not None or stack.status is StackStatus.DELETE_IN_PROGRESS:
            return
        if stack.is_protected:
            raise ValidationError(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status.is_under_way:
            raise _busy(stack, "deleted")
        self._exports.check(stack, ())
        leftovers = () if stack.work is None else stack.work.leftovers
        acting = self._remember(caller, asked.role_arn or stack.shape.role_arn)
        changed = replace(
            stack, status=StackStatus.DELETE_IN_PROGRESS, reason="User Initiated",
            work=Work(acting, asked.token, leftovers=leftovers, retain=asked.retain),
        )  # fmt: skip
        self._begin(changed, stack.status)

    def _begin(self, changed: Stack, found: StackStatus) -> None:
        if not self._store.begin(changed, found, [stack_event(changed)]):
            raise _busy(changed, "updated")
        self._start(changed)

    def _start(self, stack: Stack) -> None:
        desk = Desk(self._store, stack)
        steps = Steps(desk, self.kinds, self._delegates)
        engine = StackEngine(desk, steps, self._exports, self._region)
        self._background.start(engine.run(), f"the work on {stack.id}")

    def _remember(self, caller: Caller, role_arn: str | None) -> Acting:
        return self._delegates.remember(caller, role_arn)

    # --- what is told

    async def plan(self, template: Template, stack: Stack) -> tuple[tuple[PlannedChange, ...], tuple[StackOutput, ...]]:
        """Return what would change, and the outputs; see `plans.plan`."""
        find_export = self._exports.finder(stack)
        return await in_thread(plan, template, stack, self._region, self.kinds, find_export)

    def get(self, caller: Caller, name_or_id: str) -> Stack:
        """Return a stack: by its ARN also one that is deleted.

        Raises:
            ValidationError: there is none.
        """
        stack = self._store.find(caller.account_id, name_or_id)
        if stack is None:
            raise ValidationError(f"Stack with id {name_or_id} does not exist")
        return stack

    def list_stacks(self, caller: Caller, *, deleted_too: bool = False) -> list[Stack]:
        """Return the stacks of the caller's account, newest first."""
        return self._store.list_stacks(caller.account_id, deleted_too=deleted_too)

    def events(self, caller: Caller, name_or_id: str, token: str | None) -> Page[StackEvent]:
        """Return what has happened to a stack, newest first.

        Raises:
            ValidationError: there is no such stack, or the token is not one of this list's.
        """
        stack = self.get(caller, name_or_id)
        before = None if token is None else int(self._page_tokens.open(_EVENTS, token)[0])
        found = self._store.list_events(stack.id, before, PAGE_EVENTS + 1)
        page = found[:PAGE_EVENTS]
        following = self._page_tokens.seal(_EVENTS, [page[-1][0]]) if len(found) > len(page) else None
        return Page([event for _, event in page], following)

    async def summarise(self, caller: Caller, asked: ShapeRequest, stack_name: str | None) -> TemplateSummary:
        """Read a template, or that of a stack.

        Raises:
            ValidationError: it is malformed, or there is no such stack.
        """
        if stack_name is not None:
            text = self.get(caller, stack_name).shape.template
        else:
            text = await self.shaper.find_text(caller, asked, None)
        template = await in_thread(parse_template, text)
        return TemplateSummary(template, self.shaper.needed_capabilities(template))


def check_updatable(stack: Stack) -> None:
    """Look whether a stack can be updated now.

    Raises:
        ValidationError: it cannot.
    """
    if stack.status not in UPDATABLE:
        raise _busy(stack, "updated")


def _last_whole(stack: Stack) -> Before:
    """Return what a rollback of an update leads back to: past updates that have failed and were left so, as on AWS."""
    if stack.status is StackStatus.UPDATE_FAILED and stack.work is not None and stack.work.before is not None:
        return stack.work.before
    return Before(stack.shape, stack.resources, stack.outputs, stack.imports)


def _busy(stack: Stack, verb: str) -> ValidationError:
    return ValidationError(f"Stack:{stack.id} is in {stack.status} state and can not be {verb}.")
