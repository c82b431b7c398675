"""Operations of services around, of which not every parameter means something here."""

from __future__ import annotations

from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError


def offer(handler: Handler, *known: str) -> Handler:
    """Return a handler that refuses parameters that nothing acts on: to pass over a session policy would be a lie.

    Args:
        handler: answers.
        known: the parameters that it acts on.
    """
    names = frozenset(known)

    async def answer(caller: Caller, parameters: dict[str, object]) -> Members:
        check_known(parameters, names)
        return await handler(caller, parameters)

    return answer


def check_known(parameters: Parameters, names: frozenset[str]) -> None:
    """Look at the names of parameters.

    Raises:
        ValidationError: one is not known, and has a value.
    """
    unknown = sorted(
        name for name, value in parameters.items() if name not in names and value not in (None, [], "", False)
    )
    if unknown:
        raise ValidationError(f"{', '.join(unknown)} is not offered by Emberbox; docs/services.md lists what is.")
