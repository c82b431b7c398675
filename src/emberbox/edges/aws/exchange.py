"""What is known so far about a request that is being answered."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import NotOfferedError
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.operations.handler import Members, Parameters
from emberbox.edges.aws.routing import Match
from emberbox.model.iam.access import Credential


@dataclass(slots=True)
class Exchange:
    """Filled in on the way, for the log, the audit record and the form of an error.

    Attributes:
        request_id: the UUID that the answer carries.
        dialect: the protocol that the client speaks.
        request: what came.
        credential: of who signed.
        match: the operation.
        parameters: the operation's parameters.
        resources: the ARNs that it is about.
        result: the members of the operation's output.
        error: why it was refused.
    """

    request_id: str
    dialect: Dialect
    request: HttpRequest | None = None
    credential: Credential | None = None
    match: Match | None = None
    parameters: Parameters | None = None
    resources: tuple[str, ...] = ()
    result: Members | None = None
    error: Exception | None = None

    @property
    def source_ip(self) -> str:
        """Where the request comes from, or an empty string when the server does not know it."""
        return self.request.source_ip if self.request else ""

    @property
    def name(self) -> str:
        """The operation's name, or a dash."""
        return self.match.name if self.match else self.not_offered_name or "-"

    @property
    def not_offered_name(self) -> str:
        """The name of the operation that was asked for and is not offered; empty otherwise."""
        return self.error.operation if isinstance(self.error, NotOfferedError) else ""
