"""Operations called from inside the server, with the rights of whoever they are for.

The same steps as of a request that came by the wire: validate, authorise, handle, record. CloudTrail, too, tells such
calls from others by the service that made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from emberbox.control.access.authorisation import AccessRequest
from emberbox.edges.aws.answers import answer_refusal
from emberbox.edges.aws.audit import make_record
from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import WireError
from emberbox.edges.aws.exchange import Exchange
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.operations.handler import Handler, Members
from emberbox.edges.aws.permissions import Permissions, Resources
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.validate import validate_parameters
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import ServiceError
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord
from emberbox.spec.models import load_operation

SENDER: Final = "cloudformation.amazonaws.com"
"""What records of such calls have in place of an address and a program."""

_READ_ONLY: Final = ("Get", "List", "Describe")


class CallGuard(Protocol):
    """Who may do what, and the record of it."""

    @property
    def resources(self) -> Resources:
        """What is looked up to say what a request needs."""
        ...

    def authorise(self, credential: Credential, source_ip: str, request: AccessRequest) -> None:
        """Let a request pass; raises AccessDeniedError when no policy allows it."""
        ...

    def record(self, record: AuditRecord) -> None:
        """Take the audit record of a call."""
        ...


class Calls:
    """Calls operations.

    Args:
        handlers: of all services, by the names of their operations.
        guard: see there.
        region: the region played.
    """

    def __init__(self, handlers: Mapping[str, Mapping[str, Handler]], guard: CallGuard, region: str) -> None:
        self._handlers = handlers
        self._guard = guard
        self._region = region
        self._permissions = Permissions(guard.resources, region)

    async def call(self, caller: Caller, service: str, operation: str, parameters: dict[str, Any]) -> Members:
        """Call an operation; return the members of its output. Any: see `Parameters`.

        Raises:
            ServiceError, WireError: it is refused, by whatever of it.
        """
        model = load_operation(service, operation)
        match = Match(service, operation, model, {})
        dialect = Dialect.QUERY if model.service_model.metadata["protocol"] == "query" else Dialect.JSON
        exchange = Exchange(caller.request_id, dialect, credential=caller.credential, match=match)
        exchange.parameters = parameters
        try:
            result = exchange.result = await self._answer(caller, match, parameters, exchange)
        except (ServiceError, WireError) as error:
            exchange.error = error
            self._record(exchange, answer_refusal(error, match, dialect, exchange.request_id))
            raise
        if not operation.startswith(_READ_ONLY):  # what waits for something asks again and again
            self._record(exchange, Answer(200, {}, b""))
        return result

    async def _answer(self, caller: Caller, match: Match, parameters: dict[str, Any], exchange: Exchange) -> Members:
        validate_parameters(match.operation, parameters)
        asked = self._permissions.request(caller.account_id, match.service, match.name, parameters)
        self.authorise(caller, asked)
        exchange.resources = asked.resources
        with caused_by(Actor.CALLER, match.name):
            return await self._handlers[match.service][match.name](caller, parameters)

    def authorise(self, caller: Caller, asked: AccessRequest) -> None:
        """Let what a caller asks for pass.

        Raises:
            AccessDeniedError: no policy allows it.
        """
        if caller.credential is None:
            raise TypeError("who calls an operation has a credential")
        self._guard.authorise(caller.credential, caller.source_ip, replace(asked, is_secure=caller.is_secure))

    def _record(self, exchange: Exchange, answer: Answer) -> None:
        record = make_record(exchange, answer, self._region)
        self._guard.record(replace(record, source_ip=SENDER, user_agent=SENDER))
