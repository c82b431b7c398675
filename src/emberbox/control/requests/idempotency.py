"""Client tokens: the same token with the same parameters gives the first result again (dossier, section 2.5).

A token lives as long as what it made: when that is deleted, the token is forgotten and the request makes something new,
in every operation (docs/decisions/0031-answers-as-recorded.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from emberbox.model.caller import Caller
from emberbox.model.errors import ConflictError
from emberbox.store.client_tokens import ClientToken, ClientTokenStore

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What tells a repeat of a request.

    Args:
        operation: the operation's name; each has tokens of its own.
        token: the client's.
        digest: of what the request says beside the token.
    """

    operation: str
    token: str
    digest: str


def find_made(
    store: ClientTokenStore, caller: Caller, request: ClientRequest | None, find: Callable[[str], Made | None]
) -> Made | None:
    """Return what an earlier request with this token made; None where there was none, or what it made is gone.

    Args:
        store: earlier requests.
        caller: who asks.
        request: tells the repeat.
        find: returns what an earlier request made by its id, as `note_made` was told it; None when it is gone, or
            going.

    Raises:
        ConflictError: the earlier request said something else.
    """
    earlier = None if request is None else store.find(caller.account_id, request.operation, request.token)
    if earlier is None or request is None:
        return None
    made = find(earlier.resource_id)
    if made is None:
        store.forget(earlier)
        return None
    if earlier.parameters != request.digest:
        raise ConflictError("The clientToken was used before with other parameters; use a new one.")
    return made


def note_made(caller: Caller, request: ClientRequest | None, resource_id: str) -> ClientToken | None:
    """Return what is to be remembered of a request, None when it has no token."""
    if request is None:
        return None
    return ClientToken(caller.account_id, request.operation, request.token, request.digest, resource_id)
