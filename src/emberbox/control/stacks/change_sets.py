"""Change sets: what a stack would become, looked at before it is done."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from emberbox.control.stacks.commands import CreateChangeSet, ExecuteChangeSet
from emberbox.control.stacks.service import StackService, check_updatable
from emberbox.model.caller import Caller
from emberbox.model.errors import (
    AlreadyExistsError,
    ChangeSetNotFoundError,
    ChangeSetStatusError,
    QuotaExceededError,
    ValidationError,
)
from emberbox.model.stacks.records import ChangeSet, Stack
from emberbox.model.stacks.states import ChangeSetStatus, ExecutionStatus, StackStatus
from emberbox.store.stacks import StackStore

CHANGE_SETS_MAX: Final = 100
NOTHING: Final = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
"""The reason of a change set without changes: AWS's sentence, which clients look for."""


class ChangeSetService:
    """Makes, tells of and carries out change sets.

    Args:
        stacks: makes and changes stacks.
        store: the rows.
    """

    def __init__(self, stacks: StackService, store: StackStore) -> None:
        self._stacks = stacks
        self._store = store

    async def create(self, caller: Caller, asked: CreateChangeSet) -> ChangeSet:
        """Find out what would change.

        Raises:
            ValidationError, CapabilitiesError: see `Shaper.make`; the stack is not there, or is there already.
            AlreadyExistsError: the stack has a change set of the name.
            QuotaExceededError: there are too many.
        """
        known = self._store.find(caller.account_id, asked.stack_name)
        self._check_stack(asked, known)
        earlier = None if known is None else known.shape
        shape, template = await self._stacks.shaper.make(caller, asked.shape, earlier, is_reviewed=True)
        stack = known or self._stacks.new_stack(caller, asked.stack_name, shape, StackStatus.REVIEW_IN_PROGRESS)
        changes, outputs = await self._stacks.plan(template, replace(stack, shape=shape))
        if known is None:
            self._stacks.add(stack)
        is_empty = (
            not changes and outputs == stack.outputs and shape.tags == stack.shape.tags and asked.kind != "CREATE"
        )
        made = ChangeSet(
            id=f"{stack.id.rpartition(':stack/')[0]}:changeSet/{asked.name}/{uuid.uuid4()}",
            account_id=caller.account_id,
            name=asked.name,
            stack_id=stack.id,
            stack_name=stack.name,
            kind=asked.kind,
            status=ChangeSetStatus.FAILED if is_empty else ChangeSetStatus.CREATE_COMPLETE,
            execution=ExecutionStatus.UNAVAILABLE if is_empty else ExecutionStatus.AVAILABLE,
            created_at=datetime.now(UTC),
            shape=shape,
            reason=NOTHING if is_empty else None,
            description=asked.description,
            changes=changes,
            on_failure=asked.on_failure,
            token=asked.token,
        )
        self._add(made)
        return made

    def _check_stack(self, asked: CreateChangeSet, known: Stack | None) -> None:
        if asked.kind == "CREATE":
            if known is not None and known.status is not StackStatus.REVIEW_IN_PROGRESS:
                raise ValidationError(f"Stack [{known.name}] already exists and cannot be created again")
        elif known is None or known.status is StackStatus.REVIEW_IN_PROGRESS:
            raise ValidationError(f"Stack [{asked.stack_name}] does not exist")
        else:
            check_updatable(known)

    def _add(self, made: ChangeSet) -> None:
        """The name of a change set that was executed is free again."""
        before = self._store.list_change_sets(made.stack_id)
        executed = [one.id for one in before if one.name == made.name and _is_executed(one)]
        self._store.remove_change_sets(executed)
        if len(before) - len(executed) >= CHANGE_SETS_MAX:
            raise QuotaExceededError(f"A stack has {CHANGE_SETS_MAX} change sets at most")
        if not self._store.add_change_set(made):
            raise AlreadyExistsError(f"ChangeSet {made.name} already exists")

    def get(self, caller: Caller, name: str, stack_name: str | None) -> ChangeSet:
        """Return a change set: by its ARN, or by its name and its stack's.

        Raises:
            ChangeSetNotFoundError: there is none.
            ValidationError: it is a name, and no stack is named or there is none.
        """
        found = None
        if name.startswith("arn:"):
            found = self._store.find_change_set(caller.account_id, name)
        elif stack_name is None:
            raise ValidationError("StackName must be specified if ChangeSetName is not specified as an ARN.")
        else:
            stack = self._stacks.get(caller, stack_name)
            found = next((one for one in self._store.list_change_sets(stack.id) if one.name == name), None)
        if found is None:
            raise ChangeSetNotFoundError(f"ChangeSet [{name}] does not exist")
        return found

    def list_change_sets(self, caller: Caller, stack_name: str) -> list[ChangeSet]:
        """Return a stack's change sets.

        Raises:
            ValidationError: there is no such stack.
        """
        return self._store.list_change_sets(self._stacks.get(caller, stack_name).id)

    def find_template(self, caller: Caller, name: str | None, stack_name: str | None) -> str:
        """Return the text of the template of a change set, where one is named, or of a stack.

        Raises:
            ChangeSetNotFoundError, ValidationError: see `get`; neither is named.
        """
        if name is not None:
            return self.get(caller, name, stack_name).shape.template
        if stack_name is None:
            raise ValidationError("StackName is required if ChangeSetName is not specified.")
        return self._stacks.get(caller, stack_name).shape.template

    def execute(self, caller: Caller, asked: ExecuteChangeSet) -> None:
        """Begin to do what a change set says; the stack's other change sets are gone then.

        Raises:
            ChangeSetNotFoundError, ValidationError: see `get`; the stack is being changed.
            ChangeSetStatusError: it was carried out already, or has nothing to do.
        """
        found = self.get(caller, asked.name, asked.stack_name)
        if found.execution is not ExecutionStatus.AVAILABLE:
            raise ChangeSetStatusError(
                f"ChangeSet [{found.id}] cannot be executed in its current execution status of [{found.execution}]"
            )
        stack = self._stacks.get(caller, found.stack_id)
        if stack.status is StackStatus.REVIEW_IN_PROGRESS:
            on_failure = "DO_NOTHING" if asked.disable_rollback else found.on_failure or "ROLLBACK"
            self._stacks.begin_creation(caller, stack, found.shape, on_failure, asked.token, found.id)
        else:
            check_updatable(stack)
            disable = asked.disable_rollback or found.on_failure == "DO_NOTHING"
            self._stacks.begin_update(
                caller, stack, found.shape, disable_rollback=disable, token=asked.token, change_set_id=found.id
            )
        self._store.save_change_set(replace(found, execution=ExecutionStatus.EXECUTE_COMPLETE))
        others = [one.id for one in self._store.list_change_sets(stack.id) if one.id != found.id]
        self._store.remove_change_sets(others)

    def delete(self, caller: Caller, name: str, stack_name: str | None) -> None:
        """Remove a change set; one that is not there is no error.

        Raises:
            ValidationError: see `get`.
        """
        try:
            found = self.get(caller, name, stack_name)
        except ChangeSetNotFoundError:
            return
        self._store.remove_change_sets([found.id])


def _is_executed(found: ChangeSet) -> bool:
    return found.execution is ExecutionStatus.EXECUTE_COMPLETE
