"""The API as an ASGI application: one flat path from a request to its answer.

    request id → head → key → body → signature → route → throttle → parse → validate → authorise → handler → serialise
    → record

The signature is checked before the route is, so a stranger learns nothing about what exists here; and the key is
looked up before the body is read, so a stranger's body is not kept. Every refusal, whoever makes it, becomes an answer
in `_refuse`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from emberbox.control.access.authorisation import AccessRequest
from emberbox.edges.aws.answers import answer_error, answer_result, answer_wire_error
from emberbox.edges.aws.around import BY_SIGNING_NAME, asked_operation, find_operation
from emberbox.edges.aws.audit import make_record
from emberbox.edges.aws.dialects import Dialect, read_dialect
from emberbox.edges.aws.errors import (
    AuthenticationError,
    NotOfferedError,
    NotSupportedError,
    UnknownOperationError,
    WireError,
)
from emberbox.edges.aws.exchange import Exchange
from emberbox.edges.aws.forms import parse_form
from emberbox.edges.aws.http import (
    Answer,
    BodyRoom,
    BodyShare,
    ClientGoneError,
    HttpRequest,
    read_body,
    read_head,
    send_answer,
    skip_body,
)
from emberbox.edges.aws.operations.handler import Handler, Parameters
from emberbox.edges.aws.parse import parse_request
from emberbox.edges.aws.permissions import Permissions, Resources
from emberbox.edges.aws.routing import Match, Router
from emberbox.edges.aws.sigv4 import (
    SIGNING_NAMES,
    Claim,
    CredentialSource,
    Identity,
    check_signing_name,
    read_claim,
    verify,
)
from emberbox.edges.aws.validate import validate_parameters
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import InternalError, ServiceError
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord
from emberbox.model.iam.global_keys import header_keys
from emberbox.spec.models import AROUND, SERVICES, operation_names
from emberbox.spec.openapi import render_openapi

log = logging.getLogger(__name__)

_JSON: Final = {"content-type": "application/json"}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Guard(Protocol):
    """Who may do what and how often, and the record of it."""

    @property
    def resources(self) -> Resources:
        """What is looked up to say what a request needs."""
        ...

    def throttle(self, credential: Credential, operation: str) -> None:
        """Count a request; raises ThrottlingError when there were too many."""
        ...

    def authorise(self, credential: Credential, source_ip: str, request: AccessRequest) -> None:
        """Let a request pass; raises AccessDeniedError when no policy allows it."""
        ...

    def record(self, record: AuditRecord) -> None:
        """Take the audit record of an answered request."""
        ...


def create_api(
    handlers: Mapping[str, Mapping[str, Handler]],
    credentials: CredentialSource,
    region: str,
    clock: Callable[[], datetime] = _utc_now,
    guard: Guard | None = None,
) -> ASGIApp:
    """Build the API.

    Args:
        handlers: service name (`lambda-microvms`) to operation name (`RunMicrovm`) to handler. A handler gets
            the caller and the parameters by their names in the model, and returns the output's members or
            raises a `ServiceError`. An operation without a handler is answered with 501.
        credentials: finds a credential by its access key id, or returns None.
        region: the region that requests must be signed for.
        clock: returns the present, aware of its time zone.
        guard: without one, whoever has a key may do everything: for tests of this layer alone.

    Raises:
        ValueError: a handler is for a service or an operation that the models do not have.
    """
    for service, operations in handlers.items():
        known = operation_names(service) if service in (*SERVICES, *AROUND) else ()
        if unknown := operations.keys() - set(known):
            raise ValueError(f"the model of {service} has no operation {', '.join(sorted(unknown))}")
    return _Api(handlers, credentials, region, clock, guard)


@cache
def _render_description() -> bytes:
    return json.dumps(render_openapi(), indent=1).encode()


class _Api:
    """The application that `create_api` returns."""

    def __init__(
        self,
        handlers: Mapping[str, Mapping[str, Handler]],
        credentials: CredentialSource,
        region: str,
        clock: Callable[[], datetime],
        guard: Guard | None,
    ) -> None:
        self._handlers = handlers
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._guard = guard
        self._permissions = None if guard is None else Permissions(guard.resources, region)
        self._router = Router(SERVICES)
        self._room = BodyRoom()
        self._public = {
            "/health": Answer(200, _JSON, b'{"status":"ok"}'),
            "/emberbox/openapi.json": Answer(200, _JSON, _render_description()),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in self._public:
            await send_answer(self._public[scope["path"]], send)
        elif scope["type"] == "http":
            await self._answer_http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(str(uuid.uuid4()), Dialect.REST_JSON)
        started = time.perf_counter()
        share = BodyShare(self._room)
        try:
            exchange.request = head = read_head(scope)
            exchange.dialect = read_dialect(head)
            claim = await self._read_claim(head, receive)
            body = await read_body(receive, share)
            exchange.request = request = replace(head, body=body) if body else head
            answer = await self._answer(claim, request, exchange)
        except ClientGoneError:
            return
        except Exception as error:
            exchange.error = error
            answer = _refuse(error, exchange)
        finally:
            share.give_back()
        took_ms = (time.perf_counter() - started) * 1000
        log.info("%s %s %d in %.1f ms", exchange.request_id, exchange.name, answer.status, took_ms)
        if self._guard is not None:
            self._guard.record(make_record(exchange, answer, self._region))
        await send_answer(answer, send)

    async def _read_claim(self, head: HttpRequest, receive: Receive) -> Claim:
        try:
            return read_claim(head, self._credentials, self._region, self._clock(), any_service=True)
        except AuthenticationError:
            await skip_body(receive)  # a client that is still sending sees no answer
            raise

    async def _answer(self, claim: Claim, request: HttpRequest, exchange: Exchange) -> Answer:
        identity = verify(claim, request, self._clock())
        exchange.credential = identity.credential
        match = exchange.match = await self._find_operation(identity, request, exchange.dialect)
        if self._guard is not None:
            self._guard.throttle(identity.credential, match.name)
        parameters = exchange.parameters = _parse(match, exchange.dialect, request)
        validate_parameters(match.operation, parameters)
        self._authorise(identity.credential, match, parameters, exchange)
        handler = self._find_handler(match)
        with caused_by(Actor.CALLER, match.name):
            exchange.result = await handler(_caller(identity, request, exchange.request_id), parameters)
        return answer_result(match, exchange.dialect, exchange.result, exchange.request_id)

    async def _find_operation(self, identity: Identity, request: HttpRequest, dialect: Dialect) -> Match:
        """A signature for a service around says whose operation is meant; all others are found by their routes."""
        if identity.signing_name not in BY_SIGNING_NAME:
            try:
                match = self._router.match(request)
            except UnknownOperationError:
                if identity.signing_name in SIGNING_NAMES:
                    raise
                raise NotOfferedError(identity.signing_name, asked_operation(dialect, request)) from None
            check_signing_name(identity, match.operation.service_model.signing_name)
            return match
        return await asyncio.to_thread(find_operation, identity.signing_name, dialect, request, self._handlers)

    def _authorise(self, credential: Credential, match: Match, parameters: Parameters, exchange: Exchange) -> None:
        if self._guard is None or self._permissions is None:
            return
        asked = self._permissions.request(credential.account_id, match.service, match.name, parameters)
        if exchange.request is not None:
            facts = {**asked.facts, **header_keys(dict(exchange.request.headers))}
            asked = replace(asked, facts=facts, is_secure=exchange.request.is_secure)
        self._guard.authorise(credential, exchange.source_ip, asked)
        exchange.resources = asked.resources

    def _find_handler(self, match: Match) -> Handler:
        handler = self._handlers.get(match.service, {}).get(match.name)
        if handler is None:
            raise NotSupportedError(f"{match.name} is not supported yet by Emberbox")
        return handler


def _parse(match: Match, dialect: Dialect, request: HttpRequest) -> dict[str, Any]:  # Any: see `parse_request`
    if dialect in (Dialect.QUERY, Dialect.EC2):
        return parse_form(match, dialect, request)
    return parse_request(match, request)


def _caller(identity: Identity, request: HttpRequest, request_id: str) -> Caller:
    return Caller(
        account_id=identity.credential.account_id,
        access_key_id=identity.credential.access_key_id,
        region=identity.region,
        request_id=request_id,
        source_ip=request.source_ip,
        credential=identity.credential,
        is_secure=request.is_secure,
    )


def _refuse(error: Exception, exchange: Exchange) -> Answer:
    """Turn any exception into an answer: the one place where errors become AWS's."""
    if isinstance(error, WireError):
        return answer_wire_error(error, exchange.dialect, exchange.request_id)
    if isinstance(error, ServiceError) and exchange.match is not None:
        try:
            return answer_error(exchange.match, exchange.dialect, error, exchange.request_id)
        except (LookupError, TypeError):
            log.exception("%s %s: the error %s does not fit the model", exchange.request_id, exchange.name, error.code)
    else:
        log.error("%s %s failed", exchange.request_id, exchange.name, exc_info=error)
    return _internal_error(exchange)


def _internal_error(exchange: Exchange) -> Answer:
    """Answer with the request id and nothing else: the details are in the log."""
    error = InternalError(f"An internal error occurred. Request id: {exchange.request_id}")
    if exchange.match is not None:
        return answer_error(exchange.match, exchange.dialect, error, exchange.request_id)
    wire = WireError(error.message, error.code, 500)
    return answer_wire_error(wire, exchange.dialect, exchange.request_id)


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
