"""E2B's API at one port: requests that name a sandbox go to what runs there, all others to the control plane."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from emberbox.control.sandboxes.assembly import Sandboxes, Templates
from emberbox.control.sandboxes.sandbox_logs import SandboxLogs
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.api.app import (
    create_api,
    log_rows,
    sandbox_rows,
    snapshot_rows,
    template_list_rows,
    template_rows,
)
from emberbox.edges.e2b.api.logs import LogHandlers
from emberbox.edges.e2b.api.sandboxes import Parts, SandboxHandlers
from emberbox.edges.e2b.api.snapshots import SnapshotHandlers
from emberbox.edges.e2b.api.template_lists import TemplateListHandlers
from emberbox.edges.e2b.api.templates import TemplateHandlers
from emberbox.edges.e2b.code.app import CodeInterpreter
from emberbox.edges.e2b.envd.app import Envd, not_found
from emberbox.edges.e2b.envd.visit import read_address
from emberbox.edges.e2b.errors import error_response
from emberbox.edges.sandboxes.call import Guard
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.interpreter import Program
from emberbox.edges.sandboxes.ports import Ports, TokenForm
from emberbox.model.endpoints import Unreachable
from emberbox.model.sandbox_names import CODE_PORT, ENVD_PORT, OWN_HEADERS, TRAFFIC_HEADER, Address

Scope = MutableMapping[str, Any]  # Any: ASGI's own
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Offer:
    """What the edge stands on.

    Args:
        sandboxes: who answers for them.
        templates: who answers for those.
        logs: what sandboxes have written.
        tokens: what opens sandboxes.
        guard: who may do what.
        region: the region played.
        domain: what the host names of sandboxes end with; empty where they have none.
        tls_domain: what they end with at the gateway, without a port; empty where they have none there.
        program: the text of the interpreter that runs code; None where there is none.
    """

    sandboxes: Sandboxes
    templates: Templates
    logs: SandboxLogs
    tokens: SandboxTokens
    guard: Guard
    region: str
    domain: str
    tls_domain: str = ""
    program: Program | None = None


class E2bEdge:
    """The ASGI application; whoever made it closes it.

    Args:
        offer: see there.
    """

    def __init__(self, offer: Offer) -> None:
        self._door = offer.sandboxes.door
        parts = Parts(offer.sandboxes, offer.tokens, offer.domain, offer.tls_domain)
        rows = [
            *sandbox_rows(SandboxHandlers(parts)),
            *log_rows(LogHandlers(offer.sandboxes.service, offer.logs)),
            *template_rows(TemplateHandlers(offer.templates)),
            *template_list_rows(TemplateListHandlers(offer.templates)),
            *snapshot_rows(SnapshotHandlers(offer.sandboxes.snapshots)),
        ]
        self._api: ASGIApp = create_api(rows, offer.guard, offer.region)
        self._envd = Envd(self._door, offer.tokens)
        self._ports = Ports(self._door, offer.tokens, TokenForm(TRAFFIC_HEADER, others=OWN_HEADERS))
        self._code = CodeInterpreter(self._door, offer.tokens, offer.program)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        address = read_address(HTTPConnection(scope)) if scope["type"] == "http" else None
        if address is None:
            await self._api(scope, receive, send)
            return
        with contextlib.suppress(ClientDisconnect):
            response = await self._answer_in_sandbox(address, Request(scope, receive, send))
            await response(scope, receive, send)

    async def _answer_in_sandbox(self, address: Address, request: Request) -> Response:
        sandbox = self._door.find(address.sandbox_id)
        if sandbox is None:
            return not_found(address.sandbox_id)
        if address.port == ENVD_PORT:
            return await self._envd.answer(sandbox, request)
        try:
            if address.port == CODE_PORT:
                self._ports.check_right(sandbox, request)
                return await self._code.answer(sandbox, request)
            return await self._ports.answer(sandbox, address.port, request)
        except ApiError as error:
            return error_response(error)
        except Unreachable:
            return not_found(sandbox.id)

    async def forget_ended(self) -> None:
        """Let go of what belongs to sandboxes that have ended."""
        await self._envd.forget_ended()

    async def close(self) -> None:
        """Listen to nothing in sandboxes any more."""
        await self._envd.close()
        await self._code.close()
