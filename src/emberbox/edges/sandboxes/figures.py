"""What a sandbox has and uses, as its own kernel tells it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.scripts import run_script
from emberbox.edges.sandboxes.visit import Visit

_MEASURE: Final = """
head -n 1 /proc/stat
sleep 0.2 || sleep 1
head -n 1 /proc/stat
grep -c '^processor' /proc/cpuinfo
grep -E '^(MemTotal|MemAvailable|Cached):' /proc/meminfo
df -k / | tail -n 1
"""
_IDLE, _WAITING = 3, 4  # proc(5): the columns of /proc/stat behind its name
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is and what is used; sizes in bytes, `measured_at` in seconds since 1970."""

    measured_at: int
    cpu_count: int
    cpu_used_percent: float
    memory_total: int
    memory_used: int
    memory_cache: int
    disk_total: int
    disk_used: int


async def measure(visit: Visit) -> Figures:
    """Measure a sandbox; takes a fifth of a second.

    Raises:
        CallError: it says nothing that can be read.
    """
    done = await run_script(visit, _MEASURE)
    try:
        return read_figures(done.output.decode())
    except (ValueError, IndexError, KeyError) as error:
        raise CallError(Code.UNAVAILABLE, f"the sandbox tells no figures: {done.errors or error}") from error


def read_figures(text: str) -> Figures:
    """Return what the script has written.

    Raises:
        ValueError, IndexError, KeyError: it is something else.
    """
    before, after, count, *memory, disk = text.splitlines()
    old, new = ([int(word) for word in line.split()[1:]] for line in (before, after))
    passed = sum(new) - sum(old)
    idle = new[_IDLE] + new[_WAITING] - old[_IDLE] - old[_WAITING]
    sizes = {line.partition(":")[0]: int(line.split()[1]) * _KIB for line in memory}
    _, total, used, *_ = disk.split()
    return Figures(
        measured_at=int(time.time()),
        cpu_count=int(count),
        cpu_used_percent=round(100 * max(passed - idle, 0) / passed, 2) if passed > 0 else 0.0,
        memory_total=sizes["MemTotal"],
        memory_used=sizes["MemTotal"] - sizes["MemAvailable"],
        memory_cache=sizes["Cached"],
        disk_total=int(total) * _KIB,
        disk_used=int(used) * _KIB,
    )
