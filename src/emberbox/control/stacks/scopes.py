"""Where a stack's template is resolved: what its names, resources and imports mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.intrinsics import ACCOUNT, Scope
from emberbox.model.stacks.parameters import named_values
from emberbox.model.stacks.records import Stack, StackOutput, StackResource
from emberbox.model.stacks.template import Template

FindExport = Callable[[str], str | None]
"""Returns what a stack of the account exports by a name; None where none does."""


class StackLookups:
    """Knows the resources of a stack as they are now.

    Args:
        resources: returns them.
        find_export: looks exports up.
        to_come: resources that are yet to be made: a text stands for what they will be. Empty when it is in earnest.
    """

    def __init__(
        self,
        resources: Callable[[], Mapping[str, StackResource]],
        find_export: FindExport,
        to_come: set[str] | None = None,
    ) -> None:
        self._resources = resources
        self._find_export = find_export
        self.to_come = set() if to_come is None else to_come
        self.imports: set[str] = set()

    def ref(self, logical_id: str) -> Any:
        """Return a resource's physical id."""
        if logical_id in self.to_come:
            return f"{{{{{logical_id}}}}}"
        return self._find(logical_id).physical_id

    def attribute(self, logical_id: str, name: str) -> Any:
        """Return an attribute of a resource."""
        if logical_id in self.to_come:
            return f"{{{{{logical_id}.{name}}}}}"
        resource = self._find(logical_id)
        if name not in resource.attributes:
            raise ValidationError(
                f"Template error: {logical_id} ({resource.type}) has no attribute {name} here; it has "
                f"{', '.join(sorted(resource.attributes)) or 'none'}"
            )
        return resource.attributes[name]

    def imported(self, name: str) -> str:
        """Return what another stack exports."""
        value = self._find_export(name)
        if value is None:
            raise ValidationError(f"No export named {name} found.")
        self.imports.add(name)
        return value

    def _find(self, logical_id: str) -> StackResource:
        resource = self._resources().get(logical_id)
        if resource is None or resource.physical_id is None:
            raise ValidationError(f"Template error: {logical_id} is not there: its condition does not hold")
        return resource


def open_scope(template: Template, stack: Stack, region: str, lookups: StackLookups) -> Scope:
    """Return where the values of a stack's template are resolved."""
    pseudo = {
        ACCOUNT: stack.account_id,
        "AWS::Region": region,
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
        "AWS::StackName": stack.name,
        "AWS::StackId": stack.id,
        "AWS::NotificationARNs": list(stack.shape.notification_arns),
    }
    named = named_values(template, stack.shape.parameters, stack.shape.stored)
    return Scope(template, {**named, **pseudo}, lookups)


def resolve_outputs(scope: Scope) -> tuple[StackOutput, ...]:
    """Return the outputs whose conditions hold.

    Raises:
        ValidationError: one is no text.
    """
    return tuple(
        StackOutput(
            key=output.key,
            value=scope.text(output.value, f"Outputs.{output.key}"),
            description=output.description,
            export=None if output.export is None else scope.text(output.export, "Export"),
        )
        for output in scope.template.outputs.values()
        if scope.is_wanted(output.condition)
    )
