"""The way back: what each resource of a stack is to be again, and what is to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from emberbox.control.stacks.steps import is_not_there
from emberbox.model.stacks.records import Stack, StackResource, Work
from emberbox.model.stacks.states import ResourceStatus, StackStatus

_GONE: Final = frozenset({ResourceStatus.DELETE_COMPLETE, ResourceStatus.DELETE_SKIPPED})

WAYS_BACK: Final[Mapping[StackStatus, StackStatus]] = {
    StackStatus.CREATE_FAILED: StackStatus.ROLLBACK_IN_PROGRESS,
    StackStatus.UPDATE_FAILED: StackStatus.UPDATE_ROLLBACK_IN_PROGRESS,
}
"""From what was left as it had failed to the undoing of it, which RollbackStack asks for."""


def lead_back(stack: Stack) -> tuple[Mapping[str, StackResource], Work]:
    """Return what each resource is to be again; what an update has made beside them is left over.

    Args:
        stack: one that an update has begun with: its work has what was before.
    """
    work = stack.work
    assert work is not None
    assert work.before is not None
    resources = {name: _as_before(old, stack.resources.get(name)) for name, old in work.before.resources.items()}
    kept = {one.physical_id for one in resources.values()}
    others = [one for one in (*stack.resources.values(), *work.leftovers) if is_there(one)]
    leftovers = tuple(replace(one, deletion_policy="Delete") for one in others if one.physical_id not in kept)
    return resources, replace(work, leftovers=leftovers)


def is_there(resource: StackResource) -> bool:
    """Say whether something of a resource may be there to be deleted."""
    return resource.physical_id is not None and not is_not_there(resource) and resource.status not in _GONE


def _as_before(old: StackResource, now: StackResource | None) -> StackResource:
    """Return a resource as it was, with what it has to be changed back from."""
    if now is None or now.physical_id != old.physical_id:
        return old
    changed = now.properties if now.wanted is None else now.wanted
    if changed == old.properties and now.wanted is None and now.tags == old.tags:
        return replace(old, attributes=now.attributes)
    return replace(old, properties=changed, wanted=old.properties, attributes=now.attributes)
