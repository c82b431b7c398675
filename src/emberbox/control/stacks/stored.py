"""Stored parameters: values under names, as Systems Manager's Parameter Store has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, ParameterNotFoundError, QuotaExceededError, ValidationError
from emberbox.model.stacks.stored import StoredParameter
from emberbox.store.stored_parameters import StoredParameterStore

PARAMETERS_MAX: Final = 10_000
VALUE_MAX: Final = 4096
"""Of an account, and characters of a standard parameter ("Parameter Store quotas")."""


@dataclass(frozen=True, slots=True)
class PutParameter:
    """Asks for a parameter; `type` is String or StringList, None for the one that it has."""

    name: str
    value: str
    type: str | None = None
    description: str = ""
    overwrite: bool = False


class StoredParameters:
    """Stores and tells parameters of the caller's account.

    Args:
        store: the rows.
    """

    def __init__(self, store: StoredParameterStore) -> None:
        self._store = store

    def find_value(self, account_id: str, name: str) -> str | None:
        """Return what is stored under a name, by its own or its ARN's last part."""
        found = self._store.find(account_id, plain_name(name))
        return None if found is None else found.value

    def get(self, caller: Caller, name: str) -> StoredParameter:
        """Return a parameter.

        Raises:
            ParameterNotFoundError: there is none.
        """
        found = self._store.find(caller.account_id, plain_name(name))
        if found is None:
            raise ParameterNotFoundError(f"Parameter {name} not found.")
        return found

    def put(self, caller: Caller, asked: PutParameter) -> StoredParameter:
        """Store a value.

        Raises:
            AlreadyExistsError: there is one of the name, and it is not to be overwritten.
            ValidationError: it has no type, or is too long.
            QuotaExceededError: there are too many.
        """
        if len(asked.value) > VALUE_MAX:
            raise ValidationError(
                f"Standard tier parameters support a maximum parameter value of {VALUE_MAX} characters."
            )
        known, now = self._store.find(caller.account_id, asked.name), datetime.now(UTC)
        if known is not None:
            if not asked.overwrite:
                raise AlreadyExistsError("The parameter already exists. To overwrite it, set overwrite to true.")
            kind = asked.type or known.type
            changed = replace(
                known, value=asked.value, type=kind, description=asked.description or known.description,
                version=known.version + 1, updated_at=now,
            )  # fmt: skip
            self._store.change(changed)
            return changed
        if asked.type is None:
            raise ValidationError("A parameter type is required when you create a parameter.")
        if self._store.count(caller.account_id) >= PARAMETERS_MAX:
            raise QuotaExceededError(f"An account stores {PARAMETERS_MAX} parameters at most.")
        made = StoredParameter(caller.account_id, asked.name, asked.type, asked.value, asked.description, 1, now)
        if not self._store.add(made):
            raise AlreadyExistsError("The parameter already exists. To overwrite it, set overwrite to true.")
        return made

    def delete(self, caller: Caller, name: str) -> None:
        """Remove a parameter.

        Raises:
            ParameterNotFoundError: there is none.
        """
        self._store.remove(caller.account_id, self.get(caller, name).name)


def plain_name(name: str) -> str:
    """Return the name of a parameter that may be given by its ARN."""
    if not name.startswith("arn:"):
        return name
    last = name.partition(":parameter/")[2]
    return f"/{last}" if "/" in last else last
