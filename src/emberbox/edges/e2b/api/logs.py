"""Logs of sandboxes over REST."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import Permission
from emberbox.control.sandboxes.sandbox_logs import ReadSandboxLog, SandboxLogs
from emberbox.control.sandboxes.service import SandboxService
from emberbox.edges.e2b.api.templates import read_number, show_line, show_moment
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.records import LogEvent

LINES_MAX: Final = 1000
_LEVELS: Final = ("", "debug", "info")
"""Those that leave nothing out here: what applications write has no level."""


class LogHandlers:
    """Answers requests for logs.

    Args:
        sandboxes: finds them.
        logs: reads what they have written.
    """

    def __init__(self, sandboxes: SandboxService, logs: SandboxLogs) -> None:
        self._sandboxes = sandboxes
        self._logs = logs

    async def list_newer(self, call: Call) -> Response:
        """`GET /v2/sandboxes/{id}/logs`."""
        query = call.request.query_params
        direction = query.get("direction", "forward")
        if direction not in ("forward", "backward"):
            raise ApiError(400, "direction must be forward or backward")
        place = read_number(call, "cursor", 0) if "cursor" in query else None
        asked = ReadSandboxLog(
            read_number(call, "limit", LINES_MAX, most=LINES_MAX),
            place,
            direction == "backward",
            query.get("search", ""),
        )
        lines = await self._read(call, asked) if query.get("level", "") in _LEVELS else []
        return JSONResponse({"logs": [_show(line) for line in lines]})

    async def list_all(self, call: Call) -> Response:
        """`GET /sandboxes/{id}/logs`, of earlier SDKs."""
        place = read_number(call, "start", 0) if "start" in call.request.query_params else None
        lines = await self._read(call, ReadSandboxLog(read_number(call, "limit", LINES_MAX, most=LINES_MAX), place))
        plain = [{"timestamp": show_moment(line.timestamp / 1000), "line": line.message} for line in lines]
        return JSONResponse({"logs": plain, "logEntries": [_show(line) for line in lines]})

    async def _read(self, call: Call, asked: ReadSandboxLog) -> list[LogEvent]:
        sandbox = self._sandboxes.get(call.caller, call.sandbox_id)
        group = f"arn:aws:logs:{call.region}:{sandbox.account_id}:log-group:{self._logs.find_group(sandbox)}"
        call.allow(Permission("logs:FilterLogEvents", group))
        return await self._logs.read(sandbox, asked)


def _show(line: LogEvent) -> Json:
    return {**show_line(line), "level": "info", "fields": {}}
