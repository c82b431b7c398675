"""In which order resources come to be: what others refer to comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.intrinsics import Scope, references
from emberbox.model.stacks.template import Template


def needs_of(template: Template, logical_id: str) -> tuple[str, ...]:
    """Return the resources that one needs, by name: those that it refers to, and those that it is said to depend on."""
    resource = template.resources[logical_id]
    named = {*references(resource.properties), *resource.depends_on} & template.resources.keys()
    return tuple(sorted(named))


def wanted_in_order(scope: Scope) -> list[str]:
    """Return the resources whose conditions hold, each after those that it needs.

    Raises:
        ValidationError: some need one another.
    """
    template = scope.template
    wanted = [name for name, resource in template.resources.items() if scope.is_wanted(resource.condition)]
    return sort_by_needs(wanted, {name: needs_of(template, name) for name in template.resources})


def sort_by_needs(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return names, each after those that it needs; what is needed and not among the names does not count.

    Raises:
        ValidationError: some need one another.
    """
    chosen = list(names)
    known = set(chosen)
    graph = {name: [need for need in needs.get(name, ()) if need in known] for name in chosen}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise ValidationError(f"Circular dependency between resources: [{circle}]") from None
