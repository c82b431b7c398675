"""Ports of a sandbox, reached through the gateway."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import httpx2

from emberbox_sdk._async import platform
from emberbox_sdk._async.endpoint import AsyncEndpoint, unreachable
from emberbox_sdk.errors import DeadlineError

RETRY_S = 0.05


class AsyncPort:
    """A port. `str()` of it is its address; requests need `headers()`, whose token is renewed by itself.

    Args:
        endpoint: of the sandbox.
        port: its number.
    """

    def __init__(self, endpoint: AsyncEndpoint, port: int) -> None:
        self.port = port
        self._endpoint = endpoint

    def __str__(self) -> str:
        return self.url

    @property
    def url(self) -> str:
        """The address that any client reaches: the gateway's, or the endpoint's own name."""
        return f"https://{self._endpoint.authority}/"

    @property
    def public_url(self) -> str:
        """The endpoint's own name, for browsers and for curl, which find names under .localhost."""
        return f"https://{self._endpoint.name}/"

    async def headers(self) -> dict[str, str]:
        """Return the headers that let a request in, with a token that holds for minutes at least."""
        return await self._endpoint.headers(self.port)

    async def link(self, minutes: int = 60) -> str:
        """Return a link that opens the page in a browser, which can send no headers; whoever has it is let in.

        It gives the browser a cookie for this port, and leads to `/`.

        Args:
            minutes: that the link and the cookie hold, 60 at most.

        Raises:
            ApiError: the server takes no such `minutes`.
        """
        token = await self._endpoint.tokens.mint(self.port, minutes)
        return f"{self.public_url}.emberbox/enter?port={self.port}&token={token}"

    async def request(self, method: str, path: str = "/", **more: Any) -> httpx2.Response:
        """Send a request.

        Args:
            method: of HTTP.
            path: with its query.
            more: as httpx2 takes them: `json`, `content`, `headers`, `params`, `timeout`.

        Raises:
            UnreachableError: the gateway does not answer.
        """
        headers = {**more.pop("headers", {}), **await self.headers()}
        more.setdefault("timeout", self._endpoint.client.config.wake_timeout_s)
        url = f"https://{self._endpoint.authority}{path}"
        with unreachable(self._endpoint.authority):
            return await self._endpoint.client.http.request(method, url, headers=headers, **more)

    async def get(self, path: str = "/", **more: Any) -> httpx2.Response:
        """Send a GET."""
        return await self.request("GET", path, **more)

    async def post(self, path: str = "/", **more: Any) -> httpx2.Response:
        """Send a POST."""
        return await self.request("POST", path, **more)

    async def wait(self, timeout_s: float = 60.0, path: str = "/") -> httpx2.Response:
        """Ask until something listens, and return its first answer.

        Raises:
            DeadlineError: nothing does in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            answer = await self.get(path)
            if answer.status_code != HTTPStatus.BAD_GATEWAY:
                return answer
            if time.monotonic() > deadline:
                hint = f'start() what is to listen there; run("ss -tln") shows what does on {self.port}'
                raise DeadlineError(f"nothing answers on port {self.port} after {timeout_s:g} s", hint)
            await platform.sleep(RETRY_S)
