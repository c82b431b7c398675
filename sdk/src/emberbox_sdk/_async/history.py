"""What has happened to a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

from emberbox_sdk import wire
from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk._async.logs import AsyncLogs
from emberbox_sdk.launches import read_info
from emberbox_sdk.records import SandboxEvent


class AsyncHistory:
    """Changes of one sandbox's state, and what its application has written.

    Args:
        client: of the server.
        sandbox_id: whose.
    """

    def __init__(self, client: AsyncClient, sandbox_id: str) -> None:
        self._client = client
        self._sandbox_id = sandbox_id

    def events(self, *, limit: int = 50, follow: bool = False) -> AsyncIterator[SandboxEvent]:
        """Yield changes of its state: the newest, oldest first, and then each new one where that is asked for.

        Args:
            limit: how many to begin with, up to 1000.
            follow: go on until the loop is left.
        """
        return self._client.events(self._sandbox_id, limit=limit, follow=follow)

    async def logs(self) -> AsyncLogs:
        """Return what its application writes, which goes to its image's log group; see `AsyncLogs`."""
        info = read_info(await self._client.call(wire.get_microvm(self._sandbox_id)))
        since_ms = int(info.started_at.timestamp() * 1000)
        return AsyncLogs(self._client, wire.log_group(info.image), owner=self._sandbox_id, since_ms=since_ms)
