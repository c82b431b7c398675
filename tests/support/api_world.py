"""Requests to a control plane in process, signed, with answers as botocore reads them."""

from __future__ import annotations

import json
from typing import Any

from emberbox.edges.aws.http import Answer
from support.control_plane import ControlPlane
from support.wire import call, signed_operation


class World:
    """A client of a control plane; it changes names to the ones that handlers know only by the wire."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.app = plane.app()

    async def send(self, service: str, operation: str, **parameters: Any) -> Answer:
        """Send a signed request."""
        return await call(self.app, signed_operation(service, operation, parameters))

    async def ok(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send a request that must succeed; return the body as it is on the wire."""
        answer = await self.send(service, operation, **parameters)
        assert answer.status < 300, answer.body
        body: dict[str, Any] = json.loads(answer.body) if answer.body else {}
        return body

    async def refused(self, service: str, operation: str, **parameters: Any) -> tuple[int, str, str]:
        """Send a request that must be refused; return status, code and text."""
        answer = await self.send(service, operation, **parameters)
        body = json.loads(answer.body)
        code = answer.headers.get("x-amzn-errortype") or body.get("__type")
        return answer.status, str(code), body.get("message") or body.get("Message") or ""
