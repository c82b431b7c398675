"""What a request says to the endpoint: token, port and wishes, from headers or from WebSocket subprotocols.

Browsers can set no headers when they open a WebSocket, so there the same is said in subprotocols:

    Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.authentication.<token>, lambda-microvms.port.<n>, own

The first is the marker, without which the others say nothing; headers of the same meaning win. None of the three
reaches the guest; what is left of the list does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from emberbox.edges.gateway.judge.visitor import VISITOR_HEADERS
from emberbox.model.sandbox_names import TRAFFIC_HEADER

Headers = Iterable[tuple[bytes, bytes]]

DEFAULT_PORT: Final = 8080
MARKER: Final = "lambda-microvms"
SUBPROTOCOLS_HEADER: Final = "sec-websocket-protocol"
WEBSOCKET_KEY_HEADER: Final = "sec-websocket-key"
CONNECTION_HEADER: Final = "x-emberbox-connection"
REQUEST_ID_HEADER: Final = "x-amzn-requestid"
# What Envoy tells of a request beside its method, path and Host.
JUDGED_HEADERS: Final = (
    "x-aws-proxy-auth",
    "x-aws-proxy-port",
    "x-aws-proxy-force-h2",
    SUBPROTOCOLS_HEADER,
    "sec-websocket-version",
    WEBSOCKET_KEY_HEADER,
    "content-type",
    TRAFFIC_HEADER,
    CONNECTION_HEADER,
    REQUEST_ID_HEADER,
    *VISITOR_HEADERS,
)

_PLAIN: Final = {
    CONNECTION_HEADER.encode(): "connection",
    REQUEST_ID_HEADER.encode(): "id",
    TRAFFIC_HEADER.encode(): "traffic_token",
}
_VISITOR: Final = {name.encode(): name for name in VISITOR_HEADERS}
_TOKEN_PREFIX: Final = f"{MARKER}.authentication."
_PORT_PREFIX: Final = f"{MARKER}.port."
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LAST_PORT: Final = 65535
# gRPC itself, not gRPC-Web, which is made for HTTP/1.1.
_GRPC: Final = re.compile(r"application/grpc(\+[^;]*)?(;.*)?", re.IGNORECASE)


class BadRequest(Exception):  # noqa: N818  # not an error of ours: an answer for the client
    """The request cannot be served; the text is the answer."""


@dataclass(slots=True)
class Request:
    """What a request is judged by. Lists, because a client may repeat a header.

    Args:
        hosts: the Host headers.
        tokens: the tokens that count: of the headers, or else of the subprotocols.
        ports: the ports that count, as text and not checked yet.
        subprotocols: what the client offers beside the endpoint's own; in its order.
        offers_marker: whether the client offers the subprotocol `lambda-microvms`.
        has_own_subprotocols: whether it offers any of the endpoint's own.
        is_websocket: whether it opens a WebSocket.
        has_websocket_key: whether it does so in the way of HTTP/1.1.
        wants_http2: whether the guest is to be spoken to in HTTP/2: forced, or because it is gRPC.
        connection: Envoy's number of the client's connection.
        id: Envoy's name for it.
        traffic_token: what it has for the ports of a private sandbox of E2B's API.
        visitor: what tells of a browser; the last of each header.
    """

    hosts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    subprotocols: list[str] = field(default_factory=list)
    offers_marker: bool = False
    has_own_subprotocols: bool = False
    is_websocket: bool = False
    has_websocket_key: bool = False
    wants_http2: bool = False
    connection: str = ""
    id: str = ""
    traffic_token: str = ""
    visitor: dict[str, str] = field(default_factory=dict)

    def port(self) -> int:
        """Return the guest's port.

        Raises:
            BadRequest: it is named twice, or is no number from 1 to 65535.
        """
        if not self.ports:
            return DEFAULT_PORT
        if len(self.ports) == 1 and _PORT.fullmatch(self.ports[0]):
            port = int(self.ports[0])
            if port <= _LAST_PORT:
                return port
        raise BadRequest(f"X-aws-proxy-port must be a single number from 1 to {_LAST_PORT}")


def read_request(headers: Headers) -> Request:
    """Pick out of a request's headers (names in lower case) what it is judged by."""
    request = Request()
    offered: list[str] = []
    for name, value in headers:
        text = value.decode("latin-1")
        match name:
            case b"host":
                request.hosts.append(text)
            case b"x-aws-proxy-auth":
                request.tokens.append(text)
            case b"x-aws-proxy-port":
                request.ports.append(text)
            case b"x-aws-proxy-force-h2":
                request.wants_http2 |= text.lower() == "true"
            case b"content-type":
                request.wants_http2 |= _GRPC.fullmatch(text) is not None
            case b"sec-websocket-protocol":
                offered += text.split(",")
            case b"sec-websocket-version":
                request.is_websocket = True
            case b"sec-websocket-key":
                request.has_websocket_key = True
            case _:
                _read_plain(request, name, text)
    if offered:
        _read_subprotocols(request, [subprotocol.strip() for subprotocol in offered])
    return request


def _read_plain(request: Request, name: bytes, text: str) -> None:
    """Keep a header that is told as it stands."""
    if name in _VISITOR:
        request.visitor[_VISITOR[name]] = text
    elif name in _PLAIN:
        setattr(request, _PLAIN[name], text)


def _read_subprotocols(request: Request, offered: list[str]) -> None:
    tokens, ports = [], []
    for subprotocol in filter(None, offered):
        if subprotocol == MARKER:
            request.offers_marker = True
        elif subprotocol.startswith(_TOKEN_PREFIX):
            tokens.append(subprotocol.removeprefix(_TOKEN_PREFIX))
        elif subprotocol.startswith(_PORT_PREFIX):
            ports.append(subprotocol.removeprefix(_PORT_PREFIX))
        else:
            request.subprotocols.append(subprotocol)
    request.has_own_subprotocols = bool(request.offers_marker or tokens or ports)
    if request.offers_marker:
        request.tokens = request.tokens or tokens
        request.ports = request.ports or ports
