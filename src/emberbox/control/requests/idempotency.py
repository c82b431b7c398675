"""Client tokens: the same token with the same parameters gives the first result again (dossier, section 2.5)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from emberbox.model.caller import Caller
from emberbox.model.errors import ConflictError
from emberbox.store.client_tokens import ClientToken, ClientTokenStore


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


def find_made(store: ClientTokenStore, caller: Caller, request: ClientRequest | None) -> str | None:
    """Return the id of what an earlier request with this token made.

    Raises:
        ConflictError: the earlier request said something else.
    """
    earlier = None if request is None else store.find(caller.account_id, request.operation, request.token)
    if earlier is None or request is None:
        return None
    if earlier.parameters != request.digest:
        raise ConflictError("The clientToken was used before with other parameters; use a new one.")
    return earlier.resource_id


def note_made(caller: Caller, request: ClientRequest | None, resource_id: str) -> ClientToken | None:
    """Return what is to be remembered of a request, None when it has no token."""
    if request is None:
        return None
    return ClientToken(caller.account_id, request.operation, request.token, request.digest, resource_id)


_SPELLINGS: Final = ("clientToken", "ClientToken")  # lambda-microvms; lambda-core


def find_earlier(store: ClientTokenStore, caller: Caller, operation: str, parameters: dict[str, Any]) -> str | None:
    """Return the id of what an earlier request with this token made.

    Raises:
        ConflictError: the earlier request had other parameters.
    """
    token = _token(parameters)
    earlier = None if token is None else store.find(caller.account_id, operation, token)
    if earlier is None:
        return None
    if earlier.parameters != _digest(parameters):
        raise ConflictError("The clientToken was used before with other parameters; use a new one.")
    return earlier.resource_id


def new_token(caller: Caller, operation: str, parameters: dict[str, Any], resource_id: str) -> ClientToken | None:
    """Return what is to be remembered of a request, None when it has no token."""
    token = _token(parameters)
    if token is None:
        return None
    return ClientToken(caller.account_id, operation, token, _digest(parameters), resource_id)


def _token(parameters: dict[str, Any]) -> str | None:
    return next((parameters[name] for name in _SPELLINGS if name in parameters), None)


def _digest(parameters: dict[str, Any]) -> str:
    relevant = {name: value for name, value in parameters.items() if name not in _SPELLINGS}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()
