"""Who calls an operation, and what answers it: what the wire layer and the control plane share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated sender of one request.

    Attributes:
        account_id: the 12-digit account that owns the access key.
        access_key_id: the key that signed the request.
        region: the region the request was signed for.
        request_id: the UUID that the answer carries as `x-amzn-RequestId`.
        source_ip: the peer's address, or an empty string when the server does not know it.
    """

    account_id: str
    access_key_id: str
    region: str
    request_id: str
    source_ip: str


Handler = Callable[[Caller, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers one operation: takes the parameters and returns the output's members, by their names in the model."""
