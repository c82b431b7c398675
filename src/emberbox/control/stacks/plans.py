"""What would become of a stack's resources: found out without touching any."""

from __future__ import annotations

from emberbox.control.stacks.kinds import ResourceKinds, has_other_tags
from emberbox.control.stacks.scopes import FindExport, StackLookups, open_scope, resolve_outputs
from emberbox.model.errors import ValidationError
from emberbox.model.stacks.order import wanted_in_order
from emberbox.model.stacks.parameters import check_rules
from emberbox.model.stacks.records import PlannedChange, Stack, StackOutput, StackResource
from emberbox.model.stacks.template import DeclaredResource, Template, Values


def plan(
    template: Template, stack: Stack, region: str, kinds: ResourceKinds, find_export: FindExport
) -> tuple[tuple[PlannedChange, ...], tuple[StackOutput, ...]]:
    """Return what differs, in the order in which it would be done, and the outputs.

    Args:
        template: what the stack is to be.
        stack: as it is, with the parameters that it is to have.
        region: the region played.
        kinds: knows which changes replace a resource.
        find_export: looks exports up.

    Raises:
        ValidationError: the template makes no sense; the text says where.
    """
    there = {name: one for name, one in stack.resources.items() if one.physical_id is not None}
    lookups = StackLookups(lambda: there, find_export, to_come=template.resources.keys() - there.keys())
    scope = open_scope(template, stack, region, lookups)
    check_rules(scope)
    wanted = wanted_in_order(scope)
    changes = []
    for logical_id in wanted:
        declared = template.resources[logical_id]
        properties = scope.resolve(declared.properties)
        _check(declared, properties, kinds)
        change = _compare(declared, properties, there.get(logical_id), stack, kinds)
        if change is not None:
            changes.append(change)
            if change.replacement == "True":
                lookups.to_come.add(logical_id)
    gone = [one for name, one in there.items() if name not in wanted]
    changes += [PlannedChange("Remove", one.logical_id, one.type, one.physical_id) for one in gone]
    return tuple(changes), resolve_outputs(scope)


def _compare(
    declared: DeclaredResource, properties: Values, known: StackResource | None, stack: Stack, kinds: ResourceKinds
) -> PlannedChange | None:
    if known is None:
        return PlannedChange("Add", declared.logical_id, declared.type)
    names = differing(known.properties, properties)
    if known.type != declared.type:
        return PlannedChange("Modify", declared.logical_id, declared.type, known.physical_id, "True", names)
    if has_other_tags(kinds, known, stack.shape.tags):
        names = tuple(sorted({*names, "Tags"}))
    if not names:
        return None
    replaced = str(kinds.is_replaced(declared.type, known.properties, properties))
    return PlannedChange("Modify", declared.logical_id, declared.type, known.physical_id, replaced, names)


def _check(declared: DeclaredResource, properties: Values, kinds: ResourceKinds) -> None:
    try:
        kinds.check(declared.type, properties)
    except ValidationError as error:
        raise ValidationError(f"{declared.logical_id}: {error.message}") from error


def differing(before: Values, after: Values) -> tuple[str, ...]:
    """Return the names of the properties that are not the same."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
