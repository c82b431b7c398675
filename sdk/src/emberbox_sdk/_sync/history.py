# Made by sdk/make_sync.py from _async/history.py; do not edit.
"""What has happened to a sandbox."""

from __future__ import annotations

from collections.abc import Iterator

from emberbox_sdk import wire
from emberbox_sdk._sync.client import Client
from emberbox_sdk._sync.logs import Logs
from emberbox_sdk.launches import read_info
from emberbox_sdk.records import SandboxEvent


class History:
    """Changes of one sandbox's state, and what its application has written.

    Args:
        client: of the server.
        sandbox_id: whose.
    """

    def __init__(self, client: Client, sandbox_id: str) -> None:
        self._client = client
        self._sandbox_id = sandbox_id

    def events(self, *, limit: int = 50, follow: bool = False) -> Iterator[SandboxEvent]:
        """Yield changes of its state: the newest, oldest first, and then each new one where that is asked for.

        Args:
            limit: how many to begin with, up to 1000.
            follow: go on until the loop is left.
        """
        return self._client.events(self._sandbox_id, limit=limit, follow=follow)

    def logs(self) -> Logs:
        """Return what its application writes, which goes to its image's log group; see `Logs`."""
        info = read_info(self._client.call(wire.get_microvm(self._sandbox_id)))
        since_ms = int(info.started_at.timestamp() * 1000)
        return Logs(self._client, wire.log_group(info.image), owner=self._sandbox_id, since_ms=since_ms)
