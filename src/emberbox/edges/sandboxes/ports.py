"""Ports of sandboxes: a request to one is passed to what listens there, over HTTP/1.1.

What a guest answers is read within bounds: its head, and how long it may be silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import h11
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.sandboxes import Sandbox
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

_HEAD_BYTES_MAX: Final = 64 << 10
_PIECE: Final = 64 << 10
_CONNECT_S: Final = limit_s(10.0)
_SILENT_S: Final = limit_s(600.0)
_OF_ONE_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"upgrade"}
)
"""RFC 9110, section 7.6.1. Requests keep Transfer-Encoding, which h11 writes anew."""


@dataclass(frozen=True, slots=True)
class TokenForm:
    """How requests to ports have the token of a private sandbox.

    Args:
        header: has it.
        parameter: of the query, has it too; empty where none does. It is nothing for guests.
        others: headers of an API's clients that are nothing for guests either.
    """

    header: str
    parameter: str = ""
    others: tuple[str, ...] = ()

    def read(self, request: Request) -> str:
        """Return the token of a request; an empty text where it has none."""
        return request.headers.get(self.header, "") or request.query_params.get(self.parameter, "")


class Ports:
    """Passes requests on.

    Args:
        door: says where ports are reached.
        tokens: what opens those of private sandboxes.
        form: how requests have them.
    """

    def __init__(self, door: SandboxDoor, tokens: SandboxTokens, form: TokenForm) -> None:
        self._door = door
        self._tokens = tokens
        self._form = form

    async def answer(self, sandbox: Sandbox, port: int, request: Request) -> Response:
        """Answer a request to a port.

        Raises:
            ApiError: the sandbox is private.
            Unreachable: the sandbox does not run.
        """
        self.check_right(sandbox, request)
        upstream = await self._door.connect(sandbox, port)
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
        except (OSError, TimeoutError):
            return _not_open(sandbox.id, port)
        passing = _Passing(reader, writer)
        try:
            return await passing.pass_on(request, _head_of(request, self._form))
        except (h11.ProtocolError, OSError, TimeoutError, EOFError) as error:
            await passing.close()
            log.debug("port %d of %s: %s", port, sandbox.id, error)
            return _not_open(sandbox.id, port)
        except (ClientDisconnect, asyncio.CancelledError):
            await passing.close()
            raise

    def check_right(self, sandbox: Sandbox, request: Request) -> None:
        """Let everybody reach the ports of a sandbox, unless it is private.

        Raises:
            ApiError: it is, and the token is missing.
        """
        if not self._tokens.opens_ports(sandbox, self._form.read(request)):
            raise ApiError(403, f"the sandbox is private: send its token as {self._form.header}")


def _not_open(sandbox_id: str, port: int) -> Response:
    message = "The sandbox is running but port is not open"
    return JSONResponse({"sandboxId": sandbox_id, "message": message, "port": port, "code": 502}, 502)


class _Passing:
    """One request on its way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)

    async def pass_on(self, request: Request, asked: h11.Request) -> Response:
        """Send it, and return the answer as soon as its head has come."""
        self._send(asked)
        try:
            async for part in request.stream():
                if part:
                    self._send(h11.Data(data=part))
                    await self._writer.drain()
            self._send(h11.EndOfMessage())
            await self._writer.drain()
        except OSError:
            pass  # it has answered without reading all
        head = await self._next_event()
        while isinstance(head, h11.InformationalResponse):
            head = await self._next_event()
        if not isinstance(head, h11.Response):
            raise EOFError("no answer")
        response = StreamingResponse(self._body(), head.status_code)
        dropped = (*_OF_ONE_HOP, b"transfer-encoding")
        response.raw_headers = [(name, value) for name, value in head.headers if name not in dropped]
        return response

    async def _body(self) -> AsyncIterator[bytes]:
        """What is cut short breaks the answer off, so that it shows."""
        try:
            while isinstance(event := await self._next_event(), h11.Data):
                yield bytes(event.data)
        finally:
            await self.close()

    def _send(self, event: h11.Event) -> None:
        self._writer.write(self._connection.send(event) or b"")

    async def _next_event(self) -> h11.Event | None:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(_SILENT_S):
                self._connection.receive_data(await self._reader.read(_PIECE))
        return event if isinstance(event, h11.Event) else None

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _head_of(request: Request, form: TokenForm) -> h11.Request:
    dropped = _OF_ONE_HOP | {name.encode() for name in (form.header, *form.others)}
    headers = [(name, value) for name, value in request.headers.raw if name not in dropped]
    query: bytes = request.scope["query_string"]
    if form.parameter:
        ours = form.parameter.encode() + b"="
        query = b"&".join(part for part in query.split(b"&") if not part.startswith(ours))
    target = request.scope["raw_path"] + (b"?" + query if query else b"")
    return h11.Request(method=request.method, target=target, headers=[*headers, (b"connection", b"close")])
