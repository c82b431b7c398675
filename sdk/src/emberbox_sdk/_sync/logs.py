# Made by sdk/make_sync.py from _async/logs.py; do not edit.
"""Logs of images' builds and of what runs in sandboxes, as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from emberbox_sdk import wire
from emberbox_sdk._sync import platform
from emberbox_sdk._sync.client import Client
from emberbox_sdk.errors import NotFoundError
from emberbox_sdk.records import LogLine

POLL_S: Final = 0.5
LATE_MS: Final = 5000
"""A line may appear after a later one: this far back is read again, and what was shown is left out."""


class Logs:
    """The lines of one log group; each comes once.

    Args:
        client: of the server.
        group: the group's name; one need not exist yet. `wire.log_group` gives an image's.
        streams: only these.
        owner: only streams of this sandbox.
        since_ms: only what was written from then on, in milliseconds since 1970.
    """

    def __init__(
        self, client: Client, group: str, streams: Sequence[str] = (), *, owner: str = "", since_ms: int = 0
    ) -> None:
        self.group = group
        self._client = client
        self._streams = list(streams)
        self._owner = owner
        self._since_ms = since_ms
        self._latest_ms = 0
        self._seen: dict[str, int] = {}

    def exists(self) -> bool:
        """Return whether the group is there."""
        return self.group in self._client.log_groups(self.group)

    def poll(self) -> list[LogLine]:
        """Return what was written since the last call, the oldest first; nothing where the group is not there yet."""
        start_ms = max(self._since_ms, self._latest_ms - LATE_MS)
        fresh: list[LogLine] = []
        token = ""
        try:
            while True:
                page = self._client.call(wire.filter_log_events(self.group, start_ms, token, self._streams))
                found = map(LogLine.read, page.get("events", ()))
                fresh += [line for line in found if line.id not in self._seen and self._owner in line.stream]
                token = page.get("nextToken") or ""
                if not token:
                    break
        except NotFoundError:
            pass
        self._seen |= {line.id: line.timestamp_ms for line in fresh}
        self._latest_ms = max([self._latest_ms, *self._seen.values()])
        horizon = self._latest_ms - LATE_MS
        self._seen = {key: moment for key, moment in self._seen.items() if moment >= horizon}
        return fresh

    def follow(self) -> Iterator[LogLine]:
        """Yield what there is and then each new line, until the loop is left."""
        while True:
            for line in self.poll():
                yield line
            platform.sleep(POLL_S)
