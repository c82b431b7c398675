"""One step of a stack's work: a resource is made, changed, replaced or deleted, and its row says how far that went.

    intended (a token, CREATE_IN_PROGRESS) ──► there (physical id) ──► CREATE_COMPLETE
    wanted (UPDATE_IN_PROGRESS) ──► UPDATE_COMPLETE

A server that is killed in between finds the row, and the next one does the step again as a repeat.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from emberbox.control.access.delegation import Delegates
from emberbox.control.stacks.desk import Desk
from emberbox.control.stacks.kinds import Job, Made, ResourceKinds, has_other_tags
from emberbox.model.errors import EmberboxError, ServiceError
from emberbox.model.stacks.records import StackResource
from emberbox.model.stacks.states import ResourceStatus, StackStatus
from emberbox.model.stacks.template import DeclaredResource, Values
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

STEP_TIMEOUT_S: Final = 4 * 3600.0
"""No step takes longer; the longest are builds, which have a limit of their own."""

_GONE: Final = frozenset({ResourceStatus.DELETE_COMPLETE, ResourceStatus.DELETE_SKIPPED})

T = TypeVar("T")


class StepError(EmberboxError):
    """A step failed; its resource's row has the reason.

    Args:
        logical_id: the resource.
        reason: why.
    """

    def __init__(self, logical_id: str, reason: str) -> None:
        super().__init__(f"{logical_id}: {reason}")
        self.logical_id = logical_id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Steps:
    """Does steps for one stack.

    Args:
        desk: the stack.
        kinds: does what is to be done.
        delegates: acts as whoever asked.
    """

    desk: Desk
    kinds: ResourceKinds
    delegates: Delegates

    async def bring(self, declared: DeclaredResource, properties: Values, needs: tuple[str, ...]) -> None:
        """Make a resource what the template wants: nothing happens where it is that already.

        Raises:
            StepError: it failed.
        """
        known = self.desk.stack.resources.get(declared.logical_id)
        new = _with_policies(_new(declared), declared, needs)
        if known is None or known.status in _GONE or is_not_there(known):
            await self._begin(replace(new, wanted=properties), is_repeat=False)
            return
        now = _with_policies(known, declared, needs)
        if known.status is ResourceStatus.CREATE_IN_PROGRESS:
            await self._begin(replace(now, wanted=properties), is_repeat=True)
        elif known.type != declared.type or self._is_replaced(declared, known, properties):
            await self._set_aside(known)
            await self._begin(replace(new, wanted=properties), is_repeat=False)
        elif known.properties != properties or known.wanted is not None or self._has_other_tags(known):
            await self.change(replace(now, wanted=properties))
        elif now != known:
            await self.desk.put(now, silently=True)

    def _has_other_tags(self, known: StackResource) -> bool:
        return has_other_tags(self.kinds, known, self._tags)

    @property
    def _tags(self) -> Mapping[str, str]:
        """The stack's tags; while an update is undone, those of before."""
        stack, before = self.desk.stack, self.desk.work.before
        is_undone = stack.status is StackStatus.UPDATE_ROLLBACK_IN_PROGRESS
        return before.shape.tags if is_undone and before is not None else stack.shape.tags

    def _is_replaced(self, declared: DeclaredResource, known: StackResource, properties: Values) -> bool:
        try:
            return self.kinds.is_replaced(declared.type, known.properties, properties)
        except ServiceError as error:
            raise StepError(declared.logical_id, error.message) from error

    async def _set_aside(self, known: StackResource) -> None:
        """What is replaced is deleted at the end; until then an update that fails leads back to it."""
        work = self.desk.work
        old = replace(known, deletion_policy=known.replace_policy)
        await self.desk.keep(work=replace(work, leftovers=(*work.leftovers, old)))

    async def _begin(self, resource: StackResource, *, is_repeat: bool) -> None:
        status = ResourceStatus.CREATE_IN_PROGRESS
        await self.desk.put(replace(resource, status=status, reason=None), silently=is_repeat)

        async def tell(physical_id: str) -> None:
            now = self.desk.stack.resources[resource.logical_id]
            if now.physical_id != physical_id:
                await self.desk.put(replace(now, physical_id=physical_id, reason="Resource creation Initiated"))

        def create() -> Awaitable[Made]:
            return self.kinds.create(self._job(resource, is_repeat=is_repeat), tell)

        made = await self._attempt(resource, ResourceStatus.CREATE_FAILED, create)
        await self._done(resource.logical_id, made, ResourceStatus.CREATE_COMPLETE)

    async def change(self, resource: StackResource) -> None:
        """Make a resource what its row wants.

        Raises:
            StepError: it failed.
        """
        await self.desk.put(replace(resource, status=ResourceStatus.UPDATE_IN_PROGRESS, reason=None))

        def update() -> Awaitable[Made]:
            return self.kinds.update(self._job(resource), str(resource.physical_id), resource.properties)

        made = await self._attempt(resource, ResourceStatus.UPDATE_FAILED, update)
        await self._done(resource.logical_id, made, ResourceStatus.UPDATE_COMPLETE)

    async def delete(self, resource: StackResource, *, is_leftover: bool = False) -> bool:
        """Delete a resource; say whether it is gone. Its row or an event has the reason where it is not."""
        put = self.desk.tell if is_leftover else self.desk.put
        await put(replace(resource, status=ResourceStatus.DELETE_IN_PROGRESS, reason=None))
        try:
            async with asyncio.timeout(limit_s(STEP_TIMEOUT_S)):
                await self.kinds.delete(self._job(resource), str(resource.physical_id))
        except Exception as error:
            await put(replace(resource, status=ResourceStatus.DELETE_FAILED, reason=describe(error)))
            return False
        await put(replace(resource, status=ResourceStatus.DELETE_COMPLETE, reason=None, wanted=None))
        return True

    async def skip(self, resource: StackResource, *, is_leftover: bool = False) -> None:
        """Leave a resource alone that the template wants to be kept."""
        put = self.desk.tell if is_leftover else self.desk.put
        await put(replace(resource, status=ResourceStatus.DELETE_SKIPPED, reason=None))

    async def _attempt(self, resource: StackResource, failed: ResourceStatus, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(limit_s(STEP_TIMEOUT_S)):
                return await work()
        except Exception as error:
            reason = describe(error)
            now = self.desk.stack.resources[resource.logical_id]
            await self.desk.put(replace(now, status=failed, reason=reason))
            raise StepError(resource.logical_id, reason) from error

    async def _done(self, logical_id: str, made: Made, status: ResourceStatus) -> None:
        now = self.desk.stack.resources[logical_id]
        done = replace(now, status=status, reason=None, physical_id=made.physical_id, attributes=dict(made.attributes))
        await self.desk.put(replace(done, properties=now.wanted or {}, wanted=None, tags=self._tags))

    def _job(self, resource: StackResource, *, is_repeat: bool = False) -> Job:
        stack = self.desk.stack
        return Job(
            caller=self.delegates.caller(stack.account_id, self.desk.work.acting),
            type=resource.type,
            logical_id=resource.logical_id,
            stack_name=stack.name,
            stack_id=stack.id,
            token=resource.token,
            properties=resource.properties if resource.wanted is None else resource.wanted,
            tags=self._tags,
            is_repeat=is_repeat,
        )


def is_not_there(resource: StackResource) -> bool:
    """Say whether nothing of a resource was made, so that nothing of it has to be deleted."""
    return resource.physical_id is None and resource.status is not ResourceStatus.CREATE_IN_PROGRESS


def _new(declared: DeclaredResource) -> StackResource:
    return StackResource(
        declared.logical_id, declared.type, ResourceStatus.CREATE_IN_PROGRESS, token=str(uuid.uuid4()), updated_at=0.0
    )


def _with_policies(resource: StackResource, declared: DeclaredResource, needs: tuple[str, ...]) -> StackResource:
    return replace(
        resource, needs=needs, deletion_policy=declared.deletion_policy, replace_policy=declared.replace_policy
    )


def describe(error: Exception) -> str:
    """Say why a step failed; what nobody has foreseen is for the server's log alone."""
    if isinstance(error, ServiceError):
        return f"{error.message} ({error.code})"
    if isinstance(error, EmberboxError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"It was not done within {limit_s(STEP_TIMEOUT_S):.0f} s (NotStabilized)"
    log.error("a step of a stack failed", exc_info=error)
    return "An internal error occurred; the server's log has it (InternalFailure)"
