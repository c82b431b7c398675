"""The routes of an API: API key → who asks → policies → control → answer → audit trail."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from emberbox.edges.sandboxes.call import Call, Guard, KeyForm, authenticate, read_body
from emberbox.edges.sandboxes.errors import ApiError, as_api_error
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import EmberboxError, ServiceError
from emberbox.model.iam.audit import AuditedResource, AuditRecord, KnownSender, Refusal, Stranger

log = logging.getLogger(__name__)

_TEXT_MAX: Final = 4096
_READ_ONLY: Final = ("Get", "List")

Handler = Callable[[Call], Awaitable[Response]]


class Row(NamedTuple):
    """A route: methods and paths that mean one operation.

    Args:
        operation: its name, in logs and the audit trail.
        counted_as: the operation of AWS's whose request rate counts; empty where none does.
        method: of HTTP.
        paths: those of every version of the API.
        handler: answers it.
        takes_json: the body is read before it is called.
    """

    operation: str
    counted_as: str
    method: str
    paths: tuple[str, ...]
    handler: Handler
    takes_json: bool = True


@dataclass(frozen=True, slots=True)
class Api:
    """What all routes of an API have in common.

    Args:
        source: names it in the audit trail.
        guard: who may do what.
        region: the region played.
        key_form: how its clients send their keys.
        refuse: returns the answer that tells an error.
        translate: returns what a client is told of an error.
    """

    source: str
    guard: Guard
    region: str
    key_form: KeyForm
    refuse: Callable[[ApiError], Response]
    translate: Callable[[EmberboxError], ApiError] = as_api_error


def make_routes(rows: Iterable[Row], api: Api) -> list[Route]:
    """Return the routes of rows."""
    endpoints = [(row, _Endpoint(row, api)) for row in rows]
    return [Route(path, endpoint.answer, methods=[row.method]) for row, endpoint in endpoints for path in row.paths]


class _Endpoint:
    """One route."""

    def __init__(self, row: Row, api: Api) -> None:
        self._row = row
        self._api = api

    async def answer(self, request: Request) -> Response:
        """Answer a request, and record it."""
        request_id, started = str(uuid.uuid4()), time.perf_counter()
        call: Call | None = None
        refusal: ApiError | None = None
        try:
            caller = authenticate(request, self._api.key_form, self._api.guard, self._api.region, request_id)
            call = Call(request, caller, self._api.guard, self._api.region, {})
            response = await self._handle(call)
        except EmberboxError as error:
            refusal = self._api.translate(error)
            if refusal.status >= 500 and not isinstance(error, ServiceError):
                log.error("%s %s failed: %s", request_id, self._row.operation, error)
        except Exception:
            log.exception("%s %s failed", request_id, self._row.operation)
            refusal = ApiError(500, f"An internal error occurred. Request id: {request_id}")
        if refusal is not None:
            response = self._api.refuse(refusal)
        took_ms = (time.perf_counter() - started) * 1000
        log.info("%s %s %d in %.1f ms", request_id, self._row.operation, response.status_code, took_ms)
        self._api.guard.record(
            make_record(self._api, self._row.operation, request, request_id, call, response.status_code, refusal)
        )
        return response

    async def _handle(self, call: Call) -> Response:
        assert call.caller.credential is not None
        if self._row.counted_as:
            self._api.guard.throttle(call.caller.credential, self._row.counted_as)
        if self._row.takes_json:
            call.body = await read_body(call.request)
        with caused_by(Actor.CALLER, self._row.operation):
            return await self._row.handler(call)


def make_record(
    api: Api,
    operation: str,
    request: HTTPConnection,
    request_id: str,
    call: Call | None,
    status: int,
    refusal: ApiError | None,
) -> AuditRecord:
    """Return the audit record of an answered request.

    Args:
        api: whose.
        operation: its name.
        request: it.
        request_id: its id.
        call: what is known of it; None where nobody known sent it.
        status: of the answer.
        refusal: what it was refused with; None where it was not.
    """
    path = {name: str(value) for name, value in request.path_params.items()}
    return AuditRecord(
        id=str(uuid.uuid4()),
        happened_at=datetime.now(UTC),
        operation=operation,
        source=api.source,
        is_data=True,
        region=api.region,
        sender=Stranger() if call is None else _sender(call.caller),
        source_ip=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent", "")[:_TEXT_MAX],
        request_id=request_id,
        read_only=operation.startswith(_READ_ONLY),
        status=status,
        resources=() if call is None else tuple(_resource(arn) for arn in dict.fromkeys(call.resources)),
        parameters=path,
        refusal=None if refusal is None else Refusal(str(refusal.status), refusal.message[:_TEXT_MAX]),
    )


def _sender(caller: Caller) -> KnownSender:
    credential = caller.credential
    assert credential is not None
    return KnownSender.of(credential)


def _resource(arn: str) -> AuditedResource:
    parts = arn.split(":")
    return AuditedResource(arn=arn, account_id=parts[4] if len(parts) > 4 else "")
