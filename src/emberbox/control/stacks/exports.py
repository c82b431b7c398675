"""What stacks of an account export to one another."""

from __future__ import annotations

from collections.abc import Sequence

from emberbox.control.stacks.scopes import FindExport
from emberbox.model.errors import ValidationError
from emberbox.model.stacks.records import Stack, StackOutput
from emberbox.store.stacks import StackStore


class Exports:
    """Finds exports, and keeps those that are in use.

    Args:
        store: the stacks.
    """

    def __init__(self, store: StackStore) -> None:
        self._store = store

    def finder(self, stack: Stack) -> FindExport:
        """Return what finds an export of another stack of the account."""

        def find(name: str) -> str | None:
            for other in self._store.list_stacks(stack.account_id):
                for output in other.outputs:
                    if output.export == name and other.id != stack.id:
                        return output.value
            return None

        return find

    def check(self, stack: Stack, outputs: Sequence[StackOutput]) -> None:
        """Hold the outputs that a stack is to have against other stacks.

        Raises:
            ValidationError: another one exports the name already; or one imports what would change or go.
        """
        after = {one.export: one.value for one in outputs if one.export is not None}
        before = {one.export: one.value for one in stack.outputs if one.export is not None}
        changed = {name for name, value in before.items() if after.get(name) != value}
        for other in self._store.list_stacks(stack.account_id):
            if other.id == stack.id:
                continue
            taken = sorted(after.keys() & {one.export for one in other.outputs})
            if taken:
                raise ValidationError(f"Export with name {taken[0]} is already exported by stack {other.name}.")
            used = sorted(changed & set(other.imports))
            if used:
                raise ValidationError(f"Export {used[0]} cannot be updated or deleted as it is in use by {other.name}")
