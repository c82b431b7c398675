"""Operations called from inside the server for somebody who has logged in there: the way of a signed request.

    throttle → parse → validate → authorise → handler → serialise → record

Who calls is known already, and the parameters come as one JSON object; all else is as at the API's port.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from emberbox.edges.aws.answers import answer_refusal, answer_result
from emberbox.edges.aws.audit import make_record
from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import UnknownOperationError, WireError
from emberbox.edges.aws.exchange import Exchange
from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.edges.aws.operations.handler import Handler, Members
from emberbox.edges.aws.parse import parse_members
from emberbox.edges.aws.permissions import Permissions
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.server import Guard
from emberbox.edges.aws.validate import validate_parameters
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import InternalError, ServiceError, ValidationError
from emberbox.spec.models import EMBERBOX, LOGS, MICROVMS, load_operation, operation_names

log = logging.getLogger(__name__)

_OFFERED: Final = (MICROVMS, EMBERBOX, LOGS)


class InsideCalls:
    """Calls the operations on images, microVMs and the server, and those of logs.

    Args:
        handlers: of all services, by the names of their operations.
        guard: who may do what, and the record of it.
        region: the region played.
    """

    def __init__(self, handlers: Mapping[str, Mapping[str, Handler]], guard: Guard, region: str) -> None:
        self._handlers = handlers
        self._guard = guard
        self._region = region
        self._permissions = Permissions(guard.resources, region)
        self._services = {name: service for service in reversed(_OFFERED) for name in operation_names(service)}

    async def call(
        self, caller: Caller, operation: str, document: Mapping[str, Any], user_agent: str = ""
    ) -> tuple[int, Any]:  # Any: JSON
        """Call an operation for somebody, and record it.

        Args:
            caller: who.
            operation: its name.
            document: its parameters by the names in the model, as JSON has them.
            user_agent: what the client says that it is.

        Returns:
            the HTTP status, and the members of the answer; of a refusal `code` and `message`.
        """
        head = HttpRequest("POST", "/", "", (("user-agent", user_agent),), b"", caller.source_ip, caller.is_secure)
        exchange = Exchange(caller.request_id, Dialect.JSON, head, caller.credential)
        try:
            answer = await self._answer(caller, operation, document, exchange)
            told = (answer.status, json.loads(answer.body or b"{}"))
        except Exception as error:
            exchange.error = error
            answer, told = _refuse(error, exchange)
        self._guard.record(make_record(exchange, answer, self._region))
        return told

    async def read(self, caller: Caller, operation: str, document: Mapping[str, Any]) -> Any:  # Any: JSON
        """Call an operation that changes nothing as part of one that was recorded; it is authorised all the same.

        Raises:
            ServiceError: it is refused.
        """
        match, parameters = self._prepare_unrecorded(caller, operation, document)
        result = await self._handlers[match.service][match.name](caller, parameters)
        return json.loads(answer_result(match, Dialect.JSON, result, caller.request_id).body or b"{}")

    def authorise(self, caller: Caller, operation: str, document: Mapping[str, Any]) -> None:
        """Let what a caller asks for pass.

        Raises:
            ServiceError: it is refused.
        """
        self._prepare_unrecorded(caller, operation, document)

    def _prepare_unrecorded(
        self, caller: Caller, operation: str, document: Mapping[str, Any]
    ) -> tuple[Match, dict[str, Any]]:
        try:
            return self._prepare(caller, operation, document, Exchange(caller.request_id, Dialect.JSON))
        except WireError as error:
            raise ValidationError(_text(error)) from error

    async def _answer(
        self, caller: Caller, operation: str, document: Mapping[str, Any], exchange: Exchange
    ) -> Answer:  # fmt: skip
        assert caller.credential is not None
        self._guard.throttle(caller.credential, operation)
        match, parameters = self._prepare(caller, operation, document, exchange)
        with caused_by(Actor.CALLER, match.name):
            result: Members = await self._handlers[match.service][match.name](caller, parameters)
        exchange.result = result
        return answer_result(match, exchange.dialect, result, exchange.request_id)

    def _prepare(
        self, caller: Caller, operation: str, document: Mapping[str, Any], exchange: Exchange
    ) -> tuple[Match, dict[str, Any]]:
        service = self._services.get(operation, "")
        if operation not in self._handlers.get(service, {}):
            raise UnknownOperationError
        match = exchange.match = Match(service, operation, load_operation(service, operation), {})
        parameters = exchange.parameters = parse_members(match.operation.input_shape, document)
        validate_parameters(match.operation, parameters)
        asked = self._permissions.request(caller.account_id, service, operation, parameters)
        assert caller.credential is not None
        self._guard.authorise(caller.credential, caller.source_ip, replace(asked, is_secure=caller.is_secure))
        exchange.resources = asked.resources
        return match, parameters


def _text(error: ServiceError | WireError) -> str:
    return error.message or "There is no such operation."


def _refuse(error: Exception, exchange: Exchange) -> tuple[Answer, tuple[int, dict[str, str]]]:
    """Return a refusal as the audit trail has it, and as it is told."""
    if not isinstance(error, ServiceError | WireError):
        log.error("%s %s failed", exchange.request_id, exchange.name, exc_info=error)
        error = InternalError(f"An internal error occurred. Request id: {exchange.request_id}")
    answer = answer_refusal(error, exchange.match, exchange.dialect, exchange.request_id)
    code = error.error_code if isinstance(error, WireError) else error.code
    return answer, (answer.status, {"code": code, "message": _text(error)})
