"""The work on one stack, from its status alone: so a server that starts goes on where another was killed.

Each status that is under way has a phase, which ends in another status; model/stacks/states.py has the picture.
Resources are made one after another, those first that others refer to, and deleted the other way round. What an update
removes or replaces is deleted when all else has succeeded: until then it can be undone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from emberbox.background import in_thread
from emberbox.control.stacks.desk import Desk
from emberbox.control.stacks.exports import Exports
from emberbox.control.stacks.rollbacks import is_there, lead_back
from emberbox.control.stacks.scopes import StackLookups, open_scope, resolve_outputs
from emberbox.control.stacks.steps import StepError, Steps, describe
from emberbox.model.errors import EmberboxError
from emberbox.model.stacks.order import needs_of, sort_by_needs, wanted_in_order
from emberbox.model.stacks.records import StackResource
from emberbox.model.stacks.states import StackStatus
from emberbox.model.stacks.template import parse_template

log = logging.getLogger(__name__)

_KEEP: Final = frozenset({"Retain", "RetainExceptOnCreate"})


class StackEngine:
    """Works on one stack until nothing is under way any more.

    Args:
        desk: the stack.
        steps: does single steps.
        exports: what stacks export to one another.
        region: the region played.
    """

    def __init__(self, desk: Desk, steps: Steps, exports: Exports, region: str) -> None:
        self._desk = desk
        self._steps = steps
        self._exports = exports
        self._region = region

    async def run(self) -> None:
        """Do what the stack's status says, and what follows from it."""
        while (phase := _PHASES.get(self._desk.stack.status)) is not None:
            await phase(self)

    # --- to what the template says

    async def create(self) -> None:
        """Make all resources."""
        try:
            await self._converge()
        except EmberboxError as error:
            await self._creation_failed(_reason(error, "create"))
            return
        await self._desk.enter(StackStatus.CREATE_COMPLETE, work=None)

    async def _creation_failed(self, reason: str) -> None:
        match self._desk.work.on_failure:
            case "DO_NOTHING":
                await self._desk.enter(StackStatus.CREATE_FAILED, reason)
            case "DELETE":
                await self._desk.enter(StackStatus.DELETE_IN_PROGRESS, f"{reason} Delete requested by user.")
            case _:
                await self._desk.enter(StackStatus.ROLLBACK_IN_PROGRESS, f"{reason} Rollback requested by user.")

    async def update(self) -> None:
        """Make all resources what they are to be from now on."""
        try:
            await self._converge()
        except EmberboxError as error:
            await self._update_failed(_reason(error, "update"))
            return
        await self._desk.enter(StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)

    async def _update_failed(self, reason: str) -> None:
        if self._desk.stack.disable_rollback or self._desk.work.before is None:
            await self._desk.enter(StackStatus.UPDATE_FAILED, reason)
        else:
            resources, work = lead_back(self._desk.stack)
            await self._desk.enter(StackStatus.UPDATE_ROLLBACK_IN_PROGRESS, reason, resources=resources, work=work)

    async def _converge(self) -> None:
        desk = self._desk
        template = await in_thread(parse_template, desk.stack.shape.template)
        find_export = self._exports.finder(desk.stack)
        lookups = StackLookups(lambda: self._desk.stack.resources, find_export)
        scope = open_scope(template, desk.stack, self._region, lookups)
        wanted = wanted_in_order(scope)
        for logical_id in wanted:
            declared = template.resources[logical_id]
            await self._steps.bring(declared, scope.resolve(declared.properties), needs_of(template, logical_id))
        outputs = resolve_outputs(scope)
        self._exports.check(desk.stack, outputs)
        gone = [one for name, one in desk.stack.resources.items() if name not in wanted]
        work = desk.work
        await desk.keep(
            outputs=outputs,
            imports=tuple(sorted(lookups.imports)),
            resources={name: desk.stack.resources[name] for name in wanted},
            work=replace(work, leftovers=(*work.leftovers, *(one for one in gone if is_there(one)))),
        )

    # --- and back

    async def roll_back_update(self) -> None:
        """Change back what an update has changed."""
        stack, before = self._desk.stack, self._desk.work.before
        assert before is not None
        failed = []
        for logical_id in sort_by_needs(stack.resources, _needs(stack.resources.values())):
            resource = self._desk.stack.resources[logical_id]
            if resource.wanted is not None:
                try:
                    await self._steps.change(resource)
                except StepError as error:
                    failed.append(error.logical_id)
        if failed:
            reason = f"The following resource(s) failed to update: [{', '.join(failed)}]."
            await self._desk.enter(StackStatus.UPDATE_ROLLBACK_FAILED, reason)
            return
        await self._desk.enter(
            StackStatus.UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS, shape=before.shape, outputs=before.outputs,
            imports=before.imports,
        )  # fmt: skip

    async def clean_up(self) -> None:
        """Delete what is left over; what cannot be deleted is told, and is the stack's no more."""
        for resource in _backwards(self._desk.work.leftovers):
            if resource.deletion_policy in _KEEP:
                await self._steps.skip(resource, is_leftover=True)
            else:
                await self._steps.delete(resource, is_leftover=True)
            work = self._desk.work
            rest = tuple(one for one in work.leftovers if one.physical_id != resource.physical_id)
            await self._desk.keep(work=replace(work, leftovers=rest))
        was_update = self._desk.stack.status is StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS
        ended = StackStatus.UPDATE_COMPLETE if was_update else StackStatus.UPDATE_ROLLBACK_COMPLETE
        await self._desk.enter(ended, work=None)

    async def roll_back_creation(self) -> None:
        """Delete what was made; only what is to be kept in any case stays."""
        failed = await self._delete_all(frozenset({"Retain"}))
        if failed:
            await self._desk.enter(StackStatus.ROLLBACK_FAILED, _not_deleted(failed))
        else:
            await self._desk.enter(StackStatus.ROLLBACK_COMPLETE, work=None)

    async def delete(self) -> None:
        """Delete all resources, and then the stack."""
        failed = await self._delete_all(_KEEP)
        if failed:
            await self._desk.enter(StackStatus.DELETE_FAILED, _not_deleted(failed))
            return
        await self._desk.enter(StackStatus.DELETE_COMPLETE, deleted_at=datetime.now(UTC), outputs=(), work=None)

    async def _delete_all(self, keep: frozenset[str]) -> list[str]:
        """Delete resources, and what is left over of earlier work; return those that are still there, by name.

        What another one needs that could not be deleted stays as well.
        """
        await self.clear_leftovers()
        stack, retain = self._desk.stack, self._desk.work.retain
        failed: list[str] = []
        blocked: set[str] = set()
        for resource in _backwards(stack.resources.values()):
            if not is_there(resource):
                continue
            if resource.logical_id in retain or (resource.deletion_policy in keep):
                await self._steps.skip(resource)
            elif resource.logical_id in blocked or not await self._steps.delete(resource):
                failed.append(resource.logical_id)
                blocked.update(resource.needs)
        return failed

    async def clear_leftovers(self) -> None:
        """Delete what an update that failed has left."""
        for resource in _backwards(self._desk.work.leftovers):
            if resource.deletion_policy not in _KEEP:
                await self._steps.delete(resource, is_leftover=True)
        await self._desk.keep(work=replace(self._desk.work, leftovers=()))


def _backwards(resources: Iterable[StackResource]) -> list[StackResource]:
    """Return resources, each before those that it needs; several may have one name."""
    listed = list(resources)
    order = sort_by_needs({one.logical_id: None for one in listed}, _needs(listed))
    place = {name: number for number, name in enumerate(order)}
    return sorted(listed, key=lambda one: place[one.logical_id], reverse=True)


def _needs(resources: Iterable[StackResource]) -> Mapping[str, tuple[str, ...]]:
    return {one.logical_id: one.needs for one in resources}


def _reason(error: EmberboxError, verb: str) -> str:
    if isinstance(error, StepError):
        return f"The following resource(s) failed to {verb}: [{error.logical_id}]."
    return describe(error)


def _not_deleted(failed: list[str]) -> str:
    return f"The following resource(s) failed to delete: [{', '.join(failed)}]."


_PHASES: Final[Mapping[StackStatus, Callable[[StackEngine], Awaitable[None]]]] = {
    StackStatus.CREATE_IN_PROGRESS: StackEngine.create,
    StackStatus.ROLLBACK_IN_PROGRESS: StackEngine.roll_back_creation,
    StackStatus.UPDATE_IN_PROGRESS: StackEngine.update,
    StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS: StackEngine.clean_up,
    StackStatus.UPDATE_ROLLBACK_IN_PROGRESS: StackEngine.roll_back_update,
    StackStatus.UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS: StackEngine.clean_up,
    StackStatus.DELETE_IN_PROGRESS: StackEngine.delete,
}
"""What is done in each status that is under way."""
