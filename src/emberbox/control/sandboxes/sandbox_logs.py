"""What the applications of sandboxes have written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from emberbox.background import in_thread
from emberbox.model.logs import log_stream_names
from emberbox.model.records import LogEvent, LogGroup
from emberbox.model.sandboxes import Sandbox
from emberbox.store.images import ImageStore
from emberbox.store.logs import LogStore


@dataclass(frozen=True, slots=True)
class ReadSandboxLog:
    """Asks for lines of a sandbox's log.

    Args:
        limit: at most so many.
        place_ms: milliseconds since 1970: lines of then and later, or those before; None leaves none out.
        backward: the newest first, those before `place_ms`.
        part: only lines that have this in them, among as many as are looked at.
    """

    limit: int
    place_ms: int | None = None
    backward: bool = False
    part: str = ""


class SandboxLogs:
    """Reads them.

    Args:
        images: their names and versions.
        logs: the lines.
    """

    def __init__(self, images: ImageStore, logs: LogStore) -> None:
        self._images = images
        self._logs = logs

    async def read(self, sandbox: Sandbox, asked: ReadSandboxLog) -> list[LogEvent]:
        """Return lines; none where the image's log is off."""
        return await in_thread(self._read, sandbox, asked)

    def find_group(self, sandbox: Sandbox) -> str:
        """Return the log group; empty where the image is being deleted."""
        image = self._images.find_by_id(sandbox.image_id)
        version = self._images.find_version(sandbox.image_id, sandbox.image_version)
        return "" if image is None or version is None else version.request.log_group(image.name)

    def _read(self, sandbox: Sandbox, asked: ReadSandboxLog) -> list[LogEvent]:
        group = LogGroup(sandbox.account_id, self.find_group(sandbox))
        streams = log_stream_names(sandbox.image_version, sandbox.id, sandbox.started_at, datetime.now(UTC))
        since, until = (None, asked.place_ms) if asked.backward else (asked.place_ms, None)
        found, _ = self._logs.page(group, streams, 0, asked.limit, since, until, newest=asked.backward)
        return [event for event in (found[::-1] if asked.backward else found) if asked.part in event.message]
