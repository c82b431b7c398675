"""The control plane's routes: API key → who asks → policies → control → answer → audit trail."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emberbox.edges.e2b.api.call import Call, Guard, authenticate, read_body
from emberbox.edges.e2b.api.logs import LogHandlers
from emberbox.edges.e2b.api.sandboxes import SandboxHandlers
from emberbox.edges.e2b.api.snapshots import SnapshotHandlers
from emberbox.edges.e2b.api.template_lists import TemplateListHandlers
from emberbox.edges.e2b.api.templates import TemplateHandlers
from emberbox.edges.e2b.errors import ApiError, as_api_error, error_response
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import EmberboxError, ServiceError
from emberbox.model.iam.audit import AuditedResource, AuditRecord, KnownSender, Refusal, Stranger

log = logging.getLogger(__name__)

SOURCE: Final = "e2b"
_TEXT_MAX: Final = 4096
_READ_ONLY: Final = ("Get", "List")

Handler = Callable[[Call], Awaitable[Response]]


class Row(NamedTuple):
    """A route: methods and paths that mean one operation.

    Args:
        operation: its name, in logs and the audit trail.
        counted_as: the operation of AWS's whose request rate counts.
        method: of HTTP.
        paths: those of every version of the API.
        handler: answers it.
    """

    operation: str
    counted_as: str
    method: str
    paths: tuple[str, ...]
    handler: Handler


def sandbox_rows(handlers: SandboxHandlers) -> list[Row]:
    """Return the routes of sandboxes."""
    one = "/sandboxes/{sandbox_id}"
    return [
        Row("CreateSandbox", "RunMicrovm", "POST", ("/sandboxes", "/v2/sandboxes"), handlers.create),
        Row("ListSandboxes", "ListMicrovms", "GET", ("/sandboxes", "/v2/sandboxes"), handlers.list_all),
        Row("GetSandbox", "GetMicrovm", "GET", (one,), handlers.get),
        Row("GetSandboxMetrics", "GetMicrovm", "GET", (f"{one}/metrics",), handlers.get_metrics),
        Row("KillSandbox", "TerminateMicrovm", "DELETE", (one,), handlers.kill),
        Row("SetSandboxTimeout", "ResumeMicrovm", "POST", (f"{one}/timeout",), handlers.set_timeout),
        Row("RefreshSandbox", "ResumeMicrovm", "POST", (f"{one}/refreshes",), handlers.refresh),
        Row("ConnectSandbox", "ResumeMicrovm", "POST", (f"{one}/connect", f"/v2{one}/connect"), handlers.connect),
        Row("ResumeSandbox", "ResumeMicrovm", "POST", (f"{one}/resume",), handlers.resume),
        Row("PauseSandbox", "SuspendMicrovm", "POST", (f"{one}/pause",), handlers.pause),
        Row("ForkSandbox", "ForkMicrovm", "POST", (f"{one}/fork",), handlers.fork),
    ]


def log_rows(handlers: LogHandlers) -> list[Row]:
    """Return the routes of logs."""
    newer, old = ("/v2/sandboxes/{sandbox_id}/logs",), ("/sandboxes/{sandbox_id}/logs",)
    return [
        Row("GetSandboxLogs", "FilterLogEvents", "GET", newer, handlers.list_newer),
        Row("GetSandboxLogs", "FilterLogEvents", "GET", old, handlers.list_all),
    ]


def snapshot_rows(handlers: SnapshotHandlers) -> list[Row]:
    """Return the routes of snapshots."""
    take, template = ("/sandboxes/{sandbox_id}/snapshots",), ("/templates/{template_id:path}",)
    return [
        Row("CreateSnapshot", "SnapshotMicrovm", "POST", take, handlers.take),
        Row("ListSnapshots", "ListMicrovmImageVersions", "GET", ("/snapshots",), handlers.list_all),
        Row("DeleteSnapshot", "DeleteMicrovmImageVersion", "DELETE", template, handlers.delete),
    ]


def template_rows(handlers: TemplateHandlers) -> list[Row]:
    """Return the routes of templates; those of snapshots come after them."""
    tags, build = ("/templates/tags",), "/templates/{template_id}/builds/{build_id}"
    upload = ("/templates/{template_id}/files/{files}",)
    return [
        Row("CreateTemplate", "CreateMicrovmImage", "POST", ("/v3/templates",), handlers.request),
        Row("GetTemplateUpload", "GetMicrovmImage", "GET", upload, handlers.find_upload),
        Row("BuildTemplate", "UpdateMicrovmImage", "POST", (f"/v2{build}",), handlers.begin),
        Row("GetTemplateBuild", "GetMicrovmImageBuild", "GET", (f"{build}/status",), handlers.get_status),
        Row("GetTemplateAlias", "GetMicrovmImage", "GET", ("/templates/aliases/{alias:path}",), handlers.find_alias),
        Row("AssignTemplateTags", "UpdateMicrovmImage", "POST", tags, handlers.assign_tags),
        Row("RemoveTemplateTags", "UpdateMicrovmImage", "DELETE", tags, handlers.remove_tags),
        Row("ListTemplateTags", "ListMicrovmImageVersions", "GET", ("/templates/{template_id:path}/tags",),
            handlers.list_tags),
    ]  # fmt: skip


def template_list_rows(handlers: TemplateListHandlers) -> list[Row]:
    """Return the routes of lists of templates; those of templates come before them."""
    one, counted = ("/templates/{template_id}",), "ListMicrovmImages"
    return [
        Row("ListTemplates", counted, "GET", ("/templates",), handlers.list_all),
        Row("ListTemplates", counted, "GET", ("/v2/templates",), handlers.list_page),
        Row("GetTemplate", "ListMicrovmImageVersions", "GET", one, handlers.get),
    ]


def create_api(rows: Iterable[Row], guard: Guard, region: str) -> Starlette:
    """Make the application.

    Args:
        rows: the routes.
        guard: who may do what.
        region: the region played.
    """
    endpoints = [(row, _Endpoint(row, guard, region)) for row in rows]
    routes = [Route(path, endpoint.answer, methods=[row.method]) for row, endpoint in endpoints for path in row.paths]
    return Starlette(
        routes=[Route("/health", _tell_health, methods=["GET"]), *routes],
        exception_handlers={404: _not_offered, 405: _not_offered},
    )


async def _tell_health(request: Request) -> Response:  # noqa: ARG001 - the interface of routes
    return JSONResponse({"status": "ok"})


async def _not_offered(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the interface of handlers
    text = f"{request.method} {request.url.path} is not offered here; docs/e2b.md says what is"
    return error_response(ApiError(404, text))


class _Endpoint:
    """One route."""

    def __init__(self, row: Row, guard: Guard, region: str) -> None:
        self._row = row
        self._guard = guard
        self._region = region

    async def answer(self, request: Request) -> Response:
        """Answer a request, and record it."""
        request_id, started = str(uuid.uuid4()), time.perf_counter()
        call: Call | None = None
        refusal: ApiError | None = None
        try:
            caller = authenticate(request, self._guard, self._region, request_id)
            call = Call(request, caller, self._guard, self._region, {})
            response = await self._handle(call)
        except EmberboxError as error:
            refusal = as_api_error(error)
            if refusal.status >= 500 and not isinstance(error, ServiceError):
                log.error("%s %s failed: %s", request_id, self._row.operation, error)
        except Exception:
            log.exception("%s %s failed", request_id, self._row.operation)
            refusal = ApiError(500, f"An internal error occurred. Request id: {request_id}")
        if refusal is not None:
            response = error_response(refusal)
        took_ms = (time.perf_counter() - started) * 1000
        log.info("%s %s %d in %.1f ms", request_id, self._row.operation, response.status_code, took_ms)
        self._guard.record(self._make_record(request, request_id, call, response.status_code, refusal))
        return response

    async def _handle(self, call: Call) -> Response:
        assert call.caller.credential is not None
        self._guard.throttle(call.caller.credential, self._row.counted_as)
        call.body = await read_body(call.request)
        with caused_by(Actor.CALLER, self._row.operation):
            return await self._row.handler(call)

    def _make_record(
        self, request: Request, request_id: str, call: Call | None, status: int, refusal: ApiError | None
    ) -> AuditRecord:
        path = {name: str(value) for name, value in request.path_params.items()}
        return AuditRecord(
            id=str(uuid.uuid4()),
            happened_at=datetime.now(UTC),
            operation=self._row.operation,
            source=SOURCE,
            is_data=True,
            region=self._region,
            sender=Stranger() if call is None else _sender(call.caller),
            source_ip=request.client.host if request.client else "",
            user_agent=request.headers.get("user-agent", "")[:_TEXT_MAX],
            request_id=request_id,
            read_only=self._row.operation.startswith(_READ_ONLY),
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
