"""A sandbox's endpoint: tokens that renew themselves, requests, and WebSockets."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from emberbox_sdk import commands, wire
from emberbox_sdk._async import platform
from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk.commands import PORT_HEADER, TOKEN_HEADER
from emberbox_sdk.errors import DeadlineError, UnreachableError
from emberbox_sdk.wire import Members

TOKEN_MINUTES = 30
RENEW_AFTER_S = 20 * 60.0
MESSAGE_BYTES_MAX = 1 << 24


class AsyncTokens:
    """Tokens of one sandbox, by what they open; each is renewed well before it expires.

    Args:
        client: mints them.
        sandbox_id: whose.
    """

    def __init__(self, client: AsyncClient, sandbox_id: str) -> None:
        self._client = client
        self._sandbox_id = sandbox_id
        self._kept: dict[int | None, tuple[str, float]] = {}

    async def get(self, port: int | None = None) -> str:
        """Return a token that holds for minutes at least.

        Args:
            port: that it opens; None for commands and files.
        """
        token, since = self._kept.get(port, ("", 0.0))
        if not token or time.monotonic() - since > RENEW_AFTER_S:
            token = await self.mint(port)
            self._kept[port] = token, time.monotonic()
        return token

    async def mint(self, port: int | None, minutes: int = TOKEN_MINUTES) -> str:
        """Return a new token.

        Args:
            port: that it opens; None for commands and files.
            minutes: that it holds, 60 at most.
        """
        if port is None:
            request = wire.create_shell_token(self._sandbox_id, minutes)
        else:
            ports: list[Members] = [{"port": port}]
            request = wire.create_auth_token(self._sandbox_id, minutes, ports)
        answer = await self._client.call(request)
        return str(answer["authToken"][TOKEN_HEADER])

    def forget(self) -> None:
        """Mint new ones the next time."""
        self._kept.clear()


class AsyncEndpoint:
    """What is reached in one sandbox with its tokens.

    Args:
        client: of the server.
        sandbox_id: which sandbox.
        name: its endpoint, as RunMicrovm returned it.
    """

    def __init__(self, client: AsyncClient, sandbox_id: str, name: str) -> None:
        self.client = client
        self.sandbox_id = sandbox_id
        self.name = name
        self.tokens = AsyncTokens(client, sandbox_id)

    @property
    def authority(self) -> str:
        """Where connections go: the gateway, whose tokens say which sandbox is meant, or the endpoint's own name."""
        return self.client.config.gateway or self.name

    async def headers(self, port: int | None = None) -> dict[str, str]:
        """Return the headers that let a request in.

        Args:
            port: of the sandbox; None for commands and files.
        """
        found = {TOKEN_HEADER: await self.tokens.get(port)}
        return found if port is None else {**found, PORT_HEADER: str(port)}

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        read_timeout_s: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request and give its answer, of which the body is not read yet.

        A token that is not taken any more is renewed once, unless the body cannot be sent again.

        Args:
            method: of HTTP.
            path: with its query.
            port: of the sandbox; None for commands and files.
            headers: further ones.
            content: the body.
            read_timeout_s: how long to wait for each piece of the answer: for ever with `math.inf`, and as the
                configuration has it when missing.

        Raises:
            UnreachableError: the gateway does not answer.
        """
        again = content is None or isinstance(content, bytes)
        config = self.client.config
        read = (
            config.wake_timeout_s if read_timeout_s is None else None if math.isinf(read_timeout_s) else read_timeout_s
        )
        limits = httpx2.Timeout(config.wake_timeout_s, connect=config.timeout_s, read=read)
        while True:
            all_headers = {**(headers or {}), **await self.headers(port)}
            url = f"https://{self.authority}{path}"
            with unreachable(self.authority):
                async with self.client.http.stream(
                    method, url, headers=all_headers, content=content, timeout=limits
                ) as answer:
                    if again and answer.status_code == httpx2.codes.FORBIDDEN:
                        again = False
                        if commands.is_stale_token(answer.status_code, await answer.aread()):
                            self.tokens.forget()
                            continue
                    yield answer
                    return

    @contextlib.asynccontextmanager
    async def open_websocket(self, subprotocol: str | None = None) -> AsyncIterator[platform.WebSocket]:
        """Open a WebSocket with a shell token; without a subprotocol it is the shell.

        Raises:
            EmberboxError: the gateway cannot be reached, or refuses.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                connecting = platform.connect(
                    f"wss://{self.authority}/shell",
                    ssl=self.client.tls,
                    additional_headers=await self.headers(),
                    subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
                    compression=None,
                    proxy=None,
                    ping_interval=None,  # a ping would be activity on a connection that is silent
                    open_timeout=self.client.config.wake_timeout_s,
                    max_size=MESSAGE_BYTES_MAX,
                )
                opened = await stack.enter_async_context(connecting)
            except InvalidStatus as error:
                body = bytes(error.response.body or b"")
                self.tokens.forget()
                raise commands.refusal(error.response.status_code, body, self.sandbox_id) from error
            except (OSError, TimeoutError, InvalidHandshake) as error:
                raise UnreachableError(f"the gateway at {self.authority} failed: {error}", GATEWAY_HINT) from error
            yield opened


GATEWAY_HINT = "`emberbox status` says whether the server runs"


@contextlib.contextmanager
def unreachable(authority: str) -> Iterator[None]:
    """Turn the errors of the network into ours.

    Raises:
        UnreachableError: in place of them.
        DeadlineError: nothing came in time.
    """
    try:
        yield
    except httpx2.ReadTimeout as error:
        hint = "`emberbox top` shows what the machine is busy with, and `emberbox events` what became of the sandbox"
        raise DeadlineError(f"nothing came through the gateway at {authority} for too long", hint) from error
    except httpx2.TransportError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"the gateway at {authority} failed: {reason}", GATEWAY_HINT) from error
