"""Client tokens: which requests are repeats of one another (dossier, section 2.5)."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from emberbox.control.requests.idempotency import ClientRequest
from emberbox.edges.aws.operations.handler import Parameters

_SPELLINGS: Final = ("clientToken", "ClientToken")  # lambda-microvms; lambda-core


def read_client_request(operation: str, parameters: Parameters) -> ClientRequest | None:
    """Return what tells a repeat of a request; None where it has no client token."""
    token = next((parameters[name] for name in _SPELLINGS if name in parameters), None)
    if token is None:
        return None
    relevant = {name: value for name, value in parameters.items() if name not in _SPELLINGS}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()
    return ClientRequest(operation, token, digest)
