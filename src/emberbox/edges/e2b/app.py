"""E2B's API at one port: requests that name a sandbox go to what runs there, all others to the control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.service import SandboxService
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.api.app import create_api, sandbox_rows
from emberbox.edges.e2b.api.call import Guard
from emberbox.edges.e2b.api.sandboxes import Parts, SandboxHandlers
from emberbox.edges.e2b.envd.app import Envd, not_found
from emberbox.edges.e2b.envd.processes import Processes
from emberbox.edges.e2b.envd.visit import ENVD_PORT, Address, read_address
from emberbox.edges.e2b.errors import ApiError, error_response
from emberbox.store.images import ImageStore

Scope = MutableMapping[str, Any]  # Any: ASGI's own
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Offer:
    """What the edge stands on.

    Args:
        sandboxes: makes and ends sandboxes.
        door: what runs in them.
        templates: finds images.
        images: tells their sizes.
        tokens: what opens sandboxes.
        guard: who may do what.
        region: the region played.
        domain: what the host names of sandboxes end with; empty where they have none.
    """

    sandboxes: SandboxService
    door: SandboxDoor
    templates: TemplateFinder
    images: ImageStore
    tokens: SandboxTokens
    guard: Guard
    region: str
    domain: str


class E2bEdge:
    """The ASGI application; whoever made it closes it.

    Args:
        offer: see there.
    """

    def __init__(self, offer: Offer) -> None:
        self._door = offer.door
        self._processes = Processes()
        parts = Parts(offer.sandboxes, offer.templates, offer.images, offer.tokens, offer.domain)
        self._api: ASGIApp = create_api(sandbox_rows(SandboxHandlers(parts)), offer.guard, offer.region)
        self._envd = Envd(offer.door, offer.tokens, self._processes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        address = read_address(HTTPConnection(scope)) if scope["type"] == "http" else None
        if address is None:
            await self._api(scope, receive, send)
            return
        response = await self._answer_in_sandbox(address, Request(scope, receive, send))
        await response(scope, receive, send)

    async def _answer_in_sandbox(self, address: Address, request: Request) -> Response:
        sandbox = self._door.find(address.sandbox_id)
        if sandbox is None:
            return not_found(address.sandbox_id)
        if address.port == ENVD_PORT:
            return await self._envd.answer(sandbox, request)
        return error_response(ApiError(501, f"port {address.port} of a sandbox is not reached this way"))

    async def close(self) -> None:
        """Listen to no process any more."""
        await self._processes.close()
