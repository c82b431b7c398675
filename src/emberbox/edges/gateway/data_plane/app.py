"""What the holder of a shell token is served: an ASGI application behind Envoy, on a Unix socket.

    WebSocket, any path              the shell, with the frames of the AWS service (shell.py)
    WebSocket, `emberbox.exec.v1`    a command with separate streams (exec.py)
    POST /exec                       a command; its output is the answer (exec.py)
    GET, PUT /files?path=            files and trees (files.py)
    GET /openapi.json                all of this, for tools

Everything else is answered with an empty 502, as AWS answers plain HTTPS with a shell token. The authoriser has
judged each request before, and names the microVM in a header that no client can send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from emberbox.edges.gateway.data_plane.commands import BAD_GATEWAY, RefusedError
from emberbox.edges.gateway.data_plane.exec import EXEC_SUBPROTOCOL, post_exec, serve_exec
from emberbox.edges.gateway.data_plane.files import get_files, put_files
from emberbox.edges.gateway.data_plane.openapi import DOCUMENT
from emberbox.edges.gateway.data_plane.shell import serve_shell
from emberbox.edges.gateway.directory import Directory

MESSAGE_BYTES_MAX: Final = 1 << 20

Endpoint = Callable[[Request], Awaitable[Response]]


async def _serve_websocket(websocket: WebSocket) -> None:
    serve = serve_exec if EXEC_SUBPROTOCOL in websocket.scope["subprotocols"] else serve_shell
    try:
        await serve(websocket)
    except RefusedError as error:
        await websocket.send_denial_response(error.response())


async def _get_document(request: Request) -> Response:  # noqa: ARG001 - the interface of routes
    return JSONResponse(DOCUMENT)


async def _refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the interface of handlers
    assert isinstance(error, RefusedError)
    return error.response()


async def _refuse_as_aws(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=BAD_GATEWAY)


def create_data_plane(directory: Directory) -> Starlette:
    """Make the application.

    Args:
        directory: finds microVMs, and runs commands in them.
    """
    handlers: dict[Any, Any] = {RefusedError: _refuse, 404: _refuse_as_aws, 405: _refuse_as_aws}
    app = Starlette(
        routes=[
            _route("POST", "/exec", post_exec),
            _route("GET", "/files", get_files),
            _route("PUT", "/files", put_files),
            _route("GET", "/openapi.json", _get_document),
            WebSocketRoute("/{path:path}", _serve_websocket),
        ],
        exception_handlers=handlers,
    )
    app.state.directory = directory
    return app


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    route = Route(path, endpoint)
    route.methods = {method}  # Starlette would add HEAD
    return route
