"""Who calls an operation."""

from __future__ import annotations

from dataclasses import dataclass, field

from emberbox.model.iam.access import Credential


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated sender of one request.

    Attributes:
        account_id: the 12-digit account that owns the access key.
        access_key_id: the key that signed the request.
        region: the region the request was signed for.
        request_id: the UUID that the answer carries as `x-amzn-RequestId`.
        source_ip: the peer's address, or an empty string when the server does not know it.
        credential: what the request was signed with; None where nobody asked.
        is_secure: the request came over TLS.
    """

    account_id: str
    access_key_id: str
    region: str
    request_id: str
    source_ip: str
    credential: Credential | None = field(default=None, compare=False, repr=False)
    is_secure: bool = False
