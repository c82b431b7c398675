"""What a sandbox tells of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.edges.sandboxes.call import Call
from emberbox.edges.sandboxes.figures import measure
from emberbox.edges.sandboxes.scripts import run_script
from emberbox.edges.sandboxes.visit import Visit

_HOME: Final = 'printf %s "${HOME:-/}"'
_WORK: Final = "pwd | tr -d '\\n'"


async def get_home(visit: Visit, call: Call) -> Response:  # noqa: ARG001 - the interface of deeds
    """`GET /user-home-dir`."""
    return JSONResponse({"dir": (await run_script(visit, _HOME)).output.decode(errors="replace")})


async def get_work_directory(visit: Visit, call: Call) -> Response:  # noqa: ARG001 - the interface of deeds
    """`GET /work-dir`: the image's, where paths that are not absolute begin."""
    return JSONResponse({"dir": (await run_script(visit, _WORK)).output.decode(errors="replace")})


async def get_metrics(visit: Visit, call: Call) -> Response:  # noqa: ARG001 - the interface of deeds
    """`GET /system/metrics`: what is used now."""
    figures = await measure(visit)
    return JSONResponse(
        {
            "cpuCount": figures.cpu_count,
            "cpuUsedPct": figures.cpu_used_percent,
            "memTotal": figures.memory_total,
            "memUsed": figures.memory_used,
            "memCache": figures.memory_cache,
            "diskTotal": figures.disk_total,
            "diskUsed": figures.disk_used,
            "diskFree": figures.disk_total - figures.disk_used,
            "timestamp": datetime.fromtimestamp(figures.measured_at, UTC).isoformat(),
            "timestampUnix": figures.measured_at,
        }
    )
