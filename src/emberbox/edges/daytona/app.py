"""Daytona's API at one port: the control plane, what its daemon answers in sandboxes, and their ports by host names."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from emberbox.control.sandboxes.assembly import Sandboxes
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.daytona.errors import api_refusal, daemon_refusal, translate
from emberbox.edges.daytona.keys import KEY_FORM, SOURCE
from emberbox.edges.daytona.routes import FOLLOW_PATH, INTERPRET_PATH, refuse, sandbox_rows, toolbox_rows
from emberbox.edges.daytona.sandboxes import Parts, SandboxHandlers
from emberbox.edges.daytona.toolbox.entry import Entry
from emberbox.edges.daytona.toolbox.following import Follower
from emberbox.edges.daytona.toolbox.interpreting import Interpreting
from emberbox.edges.daytona.toolbox.sessions import DIRECTORY, Sessions
from emberbox.edges.sandboxes.call import Call, Guard, authenticate
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.interpreter import Program
from emberbox.edges.sandboxes.ports import Ports, TokenForm
from emberbox.edges.sandboxes.routes import Api, make_record, make_routes
from emberbox.model.errors import EmberboxError
from emberbox.model.sandbox_names import Address, read_label

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]  # Any: ASGI's own
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Serve = Callable[[WebSocket, Call], Awaitable[None]]

WEBSOCKETS_MAX: Final = 256
PREVIEW_TOKENS: Final = TokenForm("x-daytona-preview-token", parameter="DAYTONA_SANDBOX_AUTH_KEY")
"""As Daytona's own proxy takes them."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the edge stands on.

    Args:
        sandboxes: who answers for them.
        tokens: what opens their ports.
        guard: who may do what.
        region: the region played.
        domain: what the host names of ports end with.
        default_snapshot: the image where a client names none.
        program: the text of the interpreter that runs code; None where there is none.
        sessions_directory: where sessions are in guests.
    """

    sandboxes: Sandboxes
    tokens: SandboxTokens
    guard: Guard
    region: str
    domain: str
    default_snapshot: str
    program: Program | None = None
    sessions_directory: str = DIRECTORY


class DaytonaEdge:
    """The ASGI application; whoever made it closes it.

    Args:
        offer: see there.
    """

    def __init__(self, offer: Offer) -> None:
        service, self._door = offer.sandboxes.service, offer.sandboxes.door
        self._sandboxes = service
        parts = Parts(offer.sandboxes, offer.tokens, offer.domain, offer.default_snapshot)
        entry, sessions = Entry(self._door, service), Sessions(offer.sessions_directory)
        self._daemon = Api(SOURCE, offer.guard, offer.region, KEY_FORM, daemon_refusal, translate)
        api = Api(SOURCE, offer.guard, offer.region, KEY_FORM, api_refusal, translate)
        follower = Follower(entry, sessions)
        self._interpreting = Interpreting(entry, offer.program)
        self._ports = Ports(self._door, offer.tokens, PREVIEW_TOKENS)
        self._websockets = 0
        self._app = Starlette(
            routes=[
                Route("/api/health", _tell_health, methods=["GET"]),
                *make_routes(sandbox_rows(SandboxHandlers(parts)), api),
                *make_routes(toolbox_rows(entry, sessions, self._interpreting), self._daemon),
                WebSocketRoute(FOLLOW_PATH, self._answer_websocket("GetSessionCommandLogs", follower.follow)),
                WebSocketRoute(INTERPRET_PATH, self._answer_websocket("RunCode", self._interpreting.execute)),
            ],
            exception_handlers={HTTPException: refuse},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        address = _read_address(HTTPConnection(scope)) if scope["type"] == "http" else None
        if address is None:
            await self._app(scope, receive, send)
            return
        with contextlib.suppress(ClientDisconnect):
            response = await self._answer_at_port(address, Request(scope, receive, send))
            await response(scope, receive, send)

    async def close(self) -> None:
        """Wait for nothing in sandboxes any more."""
        await self._interpreting.close()

    async def _answer_at_port(self, address: Address, request: Request) -> Response:
        sandbox = self._door.find(address.sandbox_id)
        try:
            if sandbox is None:
                raise ApiError(404, f"Sandbox {address.sandbox_id} not found")
            answer = await self._ports.answer(sandbox, address.port, request)
            self._sandboxes.note_use(sandbox)
            return answer
        except EmberboxError as error:
            return daemon_refusal(translate(error))

    def _answer_websocket(self, operation: str, serve: Serve) -> Callable[[WebSocket], Awaitable[None]]:
        """Return the answer to WebSockets of a path."""

        async def answer(websocket: WebSocket) -> None:
            await self._serve_websocket(websocket, operation, serve)

        return answer

    async def _serve_websocket(self, websocket: WebSocket, operation: str, serve: Serve) -> None:
        """Serve one, and record who has asked for it."""
        request_id, call, refusal = str(uuid.uuid4()), None, None
        self._websockets += 1
        try:
            if self._websockets > WEBSOCKETS_MAX:
                raise ApiError(503, f"there are {WEBSOCKETS_MAX} WebSockets already; try again later")
            daemon = self._daemon
            caller = authenticate(websocket, KEY_FORM, daemon.guard, daemon.region, request_id)
            # a WebSocket's head is a request's; nobody reads a body of it
            call = Call(cast("Request", websocket), caller, daemon.guard, daemon.region, {})
            await serve(websocket, call)
        except EmberboxError as error:
            refusal = translate(error)
            await websocket.send_denial_response(daemon_refusal(refusal))
        finally:
            self._websockets -= 1
            status = 101 if refusal is None else refusal.status
            record = make_record(self._daemon, operation, websocket, request_id, call, status, refusal)
            self._daemon.guard.record(record)


def _read_address(connection: HTTPConnection) -> Address | None:
    return read_label(connection.headers.get("host", "").partition(":")[0].lower().partition(".")[0])


async def _tell_health(request: Request) -> Response:  # noqa: ARG001 - the interface of routes
    return JSONResponse({"status": "ok"})
