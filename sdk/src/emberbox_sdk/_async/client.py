"""A server, as its API is: requests are signed, sent, and sent again where that helps."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import httpx2

from emberbox_sdk import wire
from emberbox_sdk._async import platform
from emberbox_sdk.config import Config
from emberbox_sdk.errors import EmberboxError, NotFoundError, UnreachableError
from emberbox_sdk.records import Host, SandboxEvent
from emberbox_sdk.wire import ApiRequest, Members

EVENTS_PAGE = 1000
EVENTS_POLL_S = 0.5


class AsyncClient:
    """The API of one server. Sandboxes and images share it, so that connections are kept.

    Args:
        config: where the server is and who asks; from the environment when missing.
        transport: sends in place of the network, for tests.
    """

    def __init__(self, config: Config | None = None, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.config = config or Config.from_environment()
        self.tls = self.config.tls()
        self._arns: dict[str, str] = {}
        self._http = platform.HttpClient(
            verify=self.tls, trust_env=False, timeout=self.config.timeout_s, transport=transport
        )

    @property
    def http(self) -> httpx2.AsyncClient:
        """What requests to endpoints are sent with, too."""
        return self._http

    async def call(self, request: ApiRequest) -> Members:
        """Send a request and return the members of its answer.

        Raises:
            EmberboxError: it was refused, or the server cannot be reached, after as many attempts as are sensible.
        """
        base = self.config.s3_url if request.service == "s3" else self.config.api_url
        attempt = 0
        while True:
            try:
                return await self._send(request, base)
            except EmberboxError as error:
                attempt += 1
                if attempt > self.config.retries or not wire.should_repeat(request, error):
                    raise
            await platform.sleep(wire.pause_before(attempt, random.random()))

    async def _send(self, request: ApiRequest, base: str) -> Members:
        try:
            answer = await self._http.request(
                request.method, request.url(base), content=request.body, headers=request.signed(self.config, base)
            )
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            hint = "`emberbox status` says whether the server runs"
            raise UnreachableError(f"{base} does not answer ({error or type(error).__name__})", hint) from error
        if answer.status_code >= httpx2.codes.MULTIPLE_CHOICES:
            raise wire.refusal(answer.status_code, answer.headers, answer.content)
        if request.service == "s3" or not answer.content:
            return {}
        members: Members = json.loads(answer.content)
        return members

    async def find_image(self, name: str) -> str:
        """Return the ARN of an image.

        Args:
            name: of the image, or its ARN.

        Raises:
            NotFoundError: there is none.
        """
        if name.startswith("arn:"):
            return name
        if name not in self._arns:
            found = await self._list_image(name)
            if found is None:
                hint = "Image.build() makes one; Sandbox.create() without an image takes one with Python"
                raise NotFoundError(f"there is no image {name}", hint)
            self._arns[name] = found
        return self._arns[name]

    async def _list_image(self, name: str) -> str | None:
        token = ""
        while True:
            page = await self.call(wire.list_images(name, token))
            for item in page["items"]:
                if item["name"] == name:
                    return str(item["imageArn"])
            token = page.get("nextToken") or ""
            if not token:
                return None

    def forget_image(self, name: str) -> None:
        """Look an image up again the next time: it was deleted."""
        self._arns.pop(name, None)

    # --- what happens, and what is used

    async def events(
        self, sandbox_id: str = "", *, limit: int = 50, follow: bool = False
    ) -> AsyncIterator[SandboxEvent]:
        """Yield changes of sandboxes' states: the newest, oldest first, and then each new one where that is asked for.

        Args:
            sandbox_id: only of this sandbox.
            limit: how many to begin with, up to 1000.
            follow: go on until the loop is left.
        """
        last: int | None = None
        found = (await self.call(wire.list_events(sandbox_id, None, limit)))["items"]
        while True:
            for item in found:
                event = SandboxEvent.read(item)
                last = event.id
                yield event
            if not follow:
                return
            if len(found) < EVENTS_PAGE:
                await platform.sleep(EVENTS_POLL_S)
            found = (await self.call(wire.list_events(sandbox_id, last or 0, EVENTS_PAGE)))["items"]

    async def log_groups(self, prefix: str = "") -> list[str]:
        """Return the names of the log groups that begin so."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.call(wire.describe_log_groups(prefix, token))
            found += [group["logGroupName"] for group in page["logGroups"]]
            token = page.get("nextToken") or ""
            if not token:
                return found

    async def host(self) -> Host:
        """Return what the server's machine has, and what each sandbox uses of it."""
        return Host.read(await self.call(wire.describe_host()))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
