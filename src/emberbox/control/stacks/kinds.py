"""What stacks see of the kinds of resources: whoever has their operations makes, changes and deletes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from emberbox.model.caller import Caller
from emberbox.model.stacks.records import StackResource
from emberbox.model.stacks.template import Values


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done with one resource, and as whom.

    Attributes:
        caller: whose rights count.
        type: such as AWS::IAM::Role.
        logical_id: its name in the template.
        stack_name: of its stack.
        stack_id: of its stack.
        token: unique to its making.
        properties: what it is to be, with all functions resolved.
        tags: of the stack.
        is_repeat: a server was killed while it was made: it may be there, wholly or in part.
    """

    caller: Caller
    type: str
    logical_id: str
    stack_name: str
    stack_id: str
    token: str
    properties: Values
    tags: Mapping[str, str]
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What a resource is: what `Ref` means, and what `Fn::GetAtt` means."""

    physical_id: str
    attributes: Values


Tell = Callable[[str], Awaitable[None]]
"""Takes the physical id of what is there from now on, and has to be deleted should anything fail."""


def has_other_tags(kinds: ResourceKinds, known: StackResource, tags: Mapping[str, str]) -> bool:
    """Say whether a resource has to be given its stack's tags anew, whatever becomes of its properties.

    Args:
        kinds: knows which resources have tags.
        known: the resource.
        tags: the stack's.
    """
    return known.tags is not None and known.tags != tags and kinds.has_tags(known.type)


class ResourceKinds(Protocol):
    """All kinds of resources. What fails raises an `EmberboxError` whose text becomes the reason."""

    def check(self, kind: str, properties: Values) -> None:
        """Look at the names of a resource's properties; raises ValidationError for what is not offered."""
        ...

    def names_itself(self, kind: str, properties: Values) -> bool:
        """Say whether a resource has a name of the template's choice."""
        ...

    def has_tags(self, kind: str) -> bool:
        """Say whether a stack gives its tags to a resource."""
        ...

    def is_replaced(self, kind: str, before: Values, after: Values) -> bool:
        """Say whether a change can only be made by another resource in its place.

        Raises:
            ValidationError: it would have the same name, which the template has chosen.
        """
        ...

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a resource, and wait until it is what it is to be."""
        ...

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Change a resource, and wait; `before` is what it may still be in part."""
        ...

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a resource, and wait until it is gone; what is gone already is no error."""
        ...

    async def read_object(self, caller: Caller, url: str) -> str:
        """Return the text of an object in S3 that a URL names; raises ValidationError."""
        ...
