"""The control plane's routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emberbox.edges.e2b.api.logs import LogHandlers
from emberbox.edges.e2b.api.sandboxes import SandboxHandlers
from emberbox.edges.e2b.api.snapshots import SnapshotHandlers
from emberbox.edges.e2b.api.template_lists import TemplateListHandlers
from emberbox.edges.e2b.api.templates import TemplateHandlers
from emberbox.edges.e2b.errors import error_response
from emberbox.edges.sandboxes import api_keys
from emberbox.edges.sandboxes.call import Guard, KeyForm
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.routes import Api, Row, make_routes

SOURCE: Final = "e2b"
KEY_HEADER: Final = "x-api-key"
KEY_FORM: Final = KeyForm(api_keys.E2B, lambda request: request.headers.get(KEY_HEADER, ""), "emberbox e2b-keys create")


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
    routes = make_routes(rows, Api(SOURCE, guard, region, KEY_FORM, error_response))
    return Starlette(
        routes=[Route("/health", _tell_health, methods=["GET"]), *routes],
        exception_handlers={404: _not_offered, 405: _not_offered},
    )


async def _tell_health(request: Request) -> Response:  # noqa: ARG001 - the interface of routes
    return JSONResponse({"status": "ok"})


async def _not_offered(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the interface of handlers
    text = f"{request.method} {request.url.path} is not offered here; docs/e2b.md says what is"
    return error_response(ApiError(404, text))
