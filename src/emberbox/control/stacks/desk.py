"""A stack that is being worked on: what it is now, and every change of it stored before the next one begins."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from emberbox.background import until_written
from emberbox.model.stacks.records import Stack, StackEvent, StackResource, Work
from emberbox.model.stacks.states import StackStatus
from emberbox.store.stacks import StackStore

STACK_TYPE = "AWS::CloudFormation::Stack"
REASON_MAX = 2000


class Desk:
    """Changes one stack; nobody else does while it is under way.

    Attributes:
        stack: as it is stored.

    Args:
        store: the rows.
        stack: as it is stored.
    """

    def __init__(self, store: StackStore, stack: Stack) -> None:
        self._store = store
        self.stack = stack

    @property
    def work(self) -> Work:
        """What is under way."""
        if self.stack.work is None:
            raise TypeError("a stack that is worked on has work")
        return self.stack.work

    async def enter(self, status: StackStatus, reason: str | None = None, **changes: Any) -> None:
        """Give the stack a status, with other changes of it. Any: its members have many types."""
        shape_before = self.stack.shape
        self.stack = replace(self.stack, status=status, reason=cut(reason), **changes)
        with_template = self.stack.shape.template != shape_before.template
        await self._save([stack_event(self.stack)], with_template=with_template)

    async def keep(self, **changes: Any) -> None:
        """Change the stack without an event."""
        self.stack = replace(self.stack, **changes)
        await self._save([])

    async def put(self, resource: StackResource, *, silently: bool = False, **changes: Any) -> None:
        """Store a resource as it is now, with other changes of the stack."""
        resource = replace(resource, updated_at=time.time(), reason=cut(resource.reason))
        resources = {**self.stack.resources, resource.logical_id: resource}
        self.stack = replace(self.stack, resources=resources, **changes)
        await self._save([] if silently else [self.resource_event(resource)])

    async def tell(self, resource: StackResource) -> None:
        """Store an event of a resource that is not the stack's any more."""
        await self._save([self.resource_event(resource)])

    def resource_event(self, resource: StackResource) -> StackEvent:
        """Return the event of what a resource is now."""
        return StackEvent(
            id=f"{resource.logical_id}-{resource.status}-{uuid.uuid4()}",
            stack_id=self.stack.id,
            stack_name=self.stack.name,
            logical_id=resource.logical_id,
            physical_id=resource.physical_id,
            type=resource.type,
            status=resource.status,
            reason=cut(resource.reason),
            happened_at=datetime.now(UTC),
            token=self.work.token,
        )

    async def _save(self, events: list[StackEvent], *, with_template: bool = False) -> None:
        def write() -> None:
            self._store.save(self.stack, events, with_template=with_template)

        await until_written(write, f"the state of {self.stack.id}")


def stack_event(stack: Stack) -> StackEvent:
    """Return the event of a stack's present status."""
    return StackEvent(
        id=str(uuid.uuid4()),
        stack_id=stack.id,
        stack_name=stack.name,
        logical_id=stack.name,
        physical_id=stack.id,
        type=STACK_TYPE,
        status=stack.status,
        reason=stack.reason,
        happened_at=datetime.now(UTC),
        token=None if stack.work is None else stack.work.token,
    )


def cut(reason: str | None) -> str | None:
    """Return a reason that is not too long."""
    return reason if reason is None or len(reason) <= REASON_MAX else reason[: REASON_MAX - 1] + "…"
