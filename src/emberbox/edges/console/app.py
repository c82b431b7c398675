"""The console as an ASGI application.

GET /, /assets/*                        the page
POST, GET, DELETE /api/session          log in, who am I, log out
POST /api/links                         a code that logs in once, for `emberbox console`
POST /api/call/{operation}              an operation of the API, with the rights of the session's key
WebSocket /api/live                     what changes (live.py)
WebSocket /api/microvms/{id}/shell      a terminal
GET /api/microvms/{id}/entries?path=    what is in a directory
GET, PUT /api/microvms/{id}/files?path= a file's bytes
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from emberbox.edges.console.assets import policy
from emberbox.edges.console.guest import FileContent, list_files, serve_shell
from emberbox.edges.console.live import serve_live
from emberbox.edges.console.login import close_session, make_link, open_session, tell_session
from emberbox.edges.console.parts import Parts
from emberbox.edges.console.visit import (
    RefusedError,
    check_csrf,
    get_session,
    make_caller,
    parts_of,
    read_json,
)

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 1 << 20
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)

Serve = Callable[[WebSocket], Awaitable[None]]


async def _show_page(request: Request) -> Response:
    return parts_of(request).assets.page()


async def _show_asset(request: Request) -> Response:
    return parts_of(request).assets.file(request.path_params["name"])


async def _tell_health(request: Request) -> Response:  # noqa: ARG001 - the interface of routes
    return JSONResponse({"status": "ok"})


async def _call(request: Request) -> Response:
    session = get_session(request)
    check_csrf(request, session)
    document = await read_json(request)
    operation, agent = request.path_params["operation"], request.headers.get("user-agent", "")
    status, told = await parts_of(request).calls.call(make_caller(request, session), operation, document, agent)
    return JSONResponse(told, status)


def _as_websocket(serve: Serve) -> Serve:
    async def endpoint(websocket: WebSocket) -> None:
        try:
            await serve(websocket)
        except RefusedError as error:
            await websocket.send_denial_response(error.response())

    return endpoint


async def _refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the interface of handlers
    assert isinstance(error, RefusedError)
    return error.response()


async def _hang_up(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the same
    return Response(status_code=499)  # nobody is there to see it


def create_console(parts: Parts) -> ASGIApp:
    """Make the application.

    Args:
        parts: what it stands on.
    """
    handlers: dict[Any, Any] = {RefusedError: _refuse, ClientDisconnect: _hang_up}
    app = Starlette(
        routes=[
            Route("/", _show_page, methods=["GET"]),
            Route("/assets/{name}", _show_asset, methods=["GET"]),
            Route("/health", _tell_health, methods=["GET"]),
            Route("/api/session", open_session, methods=["POST"]),
            Route("/api/session", tell_session, methods=["GET"]),
            Route("/api/session", close_session, methods=["DELETE"]),
            Route("/api/links", make_link, methods=["POST"]),
            Route("/api/call/{operation}", _call, methods=["POST"]),
            WebSocketRoute("/api/live", _as_websocket(serve_live)),
            WebSocketRoute("/api/microvms/{microvm_id}/shell", _as_websocket(serve_shell)),
            Route("/api/microvms/{microvm_id}/entries", list_files, methods=["GET"]),
            Route("/api/microvms/{microvm_id}/files", FileContent(), methods=["GET", "PUT"]),
        ],
        exception_handlers=handlers,
    )
    app.state.parts = parts
    app.state.channels = {}
    return _Guarded(app)


class _Guarded:
    """Adds to every answer what tells the browser to distrust what is not from here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message = {**message, "headers": [*message["headers"], *_missing(message["headers"])]}
            await send(message)

        await self._app(scope, receive, send_guarded)


def _missing(headers: Any) -> list[tuple[bytes, bytes]]:  # Any: ASGI's pairs
    names = {name.lower() for name, _ in headers}
    wanted = (*_HEADERS, (b"content-security-policy", policy().encode()), (b"cache-control", b"no-store"))
    return [(name, value) for name, value in wanted if name not in names]
