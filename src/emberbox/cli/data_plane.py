"""What a shell token opens, for `shell`, `exec` and `cp`: WebSockets and requests to one microVM."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from botocore.exceptions import ClientError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from emberbox.cli.context import Server
from emberbox.cli.endpoint import TOKEN_HEADER
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

EXEC_SUBPROTOCOL = "emberbox.exec.v1"
_TOKEN_MINUTES = 60
_TIMEOUT_S = limit_s(150.0)
"""A microVM that is suspended may have to be resumed first."""

_MESSAGE_BYTES_MAX = 1 << 20


class DataPlane:
    """One microVM, as the holder of a shell token sees it.

    Args:
        server: where the API and the gateway are.
        microvm_id: which microVM.

    Raises:
        HostError: the microVM lets no shells in; the text says what to do.
    """

    def __init__(self, server: Server, microvm_id: str) -> None:
        host, _, port = server.gateway.rpartition(":")
        self._address = (host, int(port))
        self._tls = ssl.create_default_context(cafile=server.ca_bundle)
        self._headers = {TOKEN_HEADER: _mint(server, microvm_id)}

    @asynccontextmanager
    async def open_websocket(self, subprotocol: str | None = None) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket; without a subprotocol it is the shell.

        Raises:
            HostError: the gateway cannot be reached, or refuses.
        """
        host, port = self._address
        try:
            opened = await connect(
                f"wss://{host}:{port}/shell",
                ssl=self._tls,
                additional_headers=self._headers,
                subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
                compression=None,
                proxy=None,
                ping_interval=None,  # a ping would be activity on a connection that is silent
                open_timeout=_TIMEOUT_S,
                max_size=_MESSAGE_BYTES_MAX,
            )
        except InvalidStatus as error:
            raise refusal(error.response.status_code, bytes(error.response.body or b"")) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise HostError(f"the gateway at {host}:{port} failed: {error}") from error
        async with opened:
            yield opened

    def begin_request(self, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPSConnection:
        """Send the head of a request; the caller sends the body, if any, and reads the response.

        Raises:
            HostError: the gateway cannot be reached.
        """
        connection = http.client.HTTPSConnection(*self._address, context=self._tls, timeout=_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.putrequest(method, path)
            for name, value in {**self._headers, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise HostError(f"the gateway at {self._address[0]}:{self._address[1]} failed: {error}") from error
        return connection


def _mint(server: Server, microvm_id: str) -> str:
    client = server.client("lambda-microvms")
    try:
        answer: dict[str, Any] = client.create_microvm_shell_auth_token(
            microvmIdentifier=microvm_id, expirationInMinutes=_TOKEN_MINUTES
        )
    except ClientError as error:
        if "SHELL_INGRESS" not in error.response["Error"].get("Message", ""):
            raise
        connectors = f"arn:aws:lambda:{server.region}:aws:network-connector:aws-network-connector"
        raise HostError(
            f"{microvm_id} was run without SHELL_INGRESS, which cannot be changed any more; run another one with "
            f"--ingress-network-connectors {connectors}:SHELL_INGRESS {connectors}:HTTP_INGRESS"
        ) from error
    return str(answer["authToken"][TOKEN_HEADER])


def refusal(status: int, body: bytes) -> HostError:
    """Say in a line why a request was refused."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode(errors="replace").strip()
    if not message and status == http.client.BAD_GATEWAY:
        message = "the microVM does not run; `emberbox ps` shows its state"
    return HostError(message or f"the gateway answered {status}")
