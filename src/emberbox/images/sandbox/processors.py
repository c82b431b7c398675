"""Which processors a sandbox runs on: one while its work is done in turn on a machine with room, else all.

What a program of gVisor's asks of its kernel is done by another thread of the host. On one processor the one goes on
where the other has stopped; on two they wake each other across processors, which takes longer than most of what is
asked, though only one of them has work (decision 0048). How busy threads are does not tell the two kinds of work apart
while they share a processor, so now and then the sandbox is let run on all, and what runs there is counted. Where
others want the processors too it stays on all: its threads then get a place wherever there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.background import in_thread
from emberbox.host.usage import cpu_seconds
from emberbox.process.adoption import descendant_pids

LOOK_S: Final = 0.5
"""How long it runs on all processors before what runs is judged."""

ALONE_S: Final = 3.5
"""How long it runs on one before it is looked at again."""

_PARALLEL: Final = 1.6
"""As many processors are used by work that gains by them; by work done in turn it is 1.0 to 1.3."""

_ROOM: Final = 0.3
"""As many processors have nothing to do on a machine with room."""

_PASSES: Final = 3
_PROC: Final = Path("/proc")
_STAT: Final = _PROC / "stat"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """What had been used at some time.

    Args:
        used_s: seconds of processor time, of all processes of the sandbox.
        idle_s: seconds in which a processor had nothing to do.
    """

    used_s: float
    idle_s: Mapping[int, float]


def choose(before: Reading, after: Reading, elapsed_s: float, among: Collection[int]) -> int | None:
    """Return the processor that is enough for a sandbox, the one with least to do; None: it is to have all.

    Args:
        before: what had been used when it began to run on all of them.
        after: what has been used since.
        elapsed_s: the seconds between.
        among: the processors.
    """
    idle_s = {cpu: after.idle_s.get(cpu, 0.0) - before.idle_s.get(cpu, 0.0) for cpu in sorted(among)}
    is_parallel = after.used_s - before.used_s > _PARALLEL * elapsed_s
    has_room = sum(idle_s.values()) >= _ROOM * elapsed_s
    return None if is_parallel or not has_room else max(idle_s, key=idle_s.__getitem__)


async def keep_together(pid: int) -> None:
    """Run a process, and what it starts, on one processor while that is enough; until this is cancelled.

    Args:
        pid: the first process of a sandbox. Its kernel must run already: it has as many processors for the programs in
            it as this process has when it starts.
    """
    everywhere = os.sched_getaffinity(0)
    while len(everywhere) > 1:
        await in_thread(place, pid, everywhere)
        cpu = await _find_place(pid, everywhere)
        await in_thread(place, pid, {cpu})
        await asyncio.sleep(ALONE_S)


async def _find_place(pid: int, everywhere: Collection[int]) -> int:
    """Wait until one processor is enough; return which."""
    loop = asyncio.get_running_loop()
    before, at = await in_thread(read, pid), loop.time()
    while True:
        await asyncio.sleep(LOOK_S)
        after, now = await in_thread(read, pid), loop.time()
        cpu = choose(before, after, now - at, everywhere)
        if cpu is not None:
            return cpu
        before, at = after, now


def read(pid: int) -> Reading:
    """Read what a process and all that it started have used, and what every processor has had to do (proc_stat(5))."""
    used_s, idle = 0.0, dict[int, float]()
    for each in (pid, *descendant_pids(pid)):
        with contextlib.suppress(OSError):  # it has ended, and counts as its parent's
            used_s += cpu_seconds(each, with_ended=True)
    for line in _STAT.read_text().splitlines():
        name, *times = line.split()
        if name.startswith("cpu") and name != "cpu":
            idle[int(name[3:])] = (int(times[3]) + int(times[4])) / _TICKS
    return Reading(used_s, idle)


def place(pid: int, cpus: Collection[int]) -> None:
    """Let all threads of a process and of what it started run on these processors; what they start later, too."""
    for _ in range(_PASSES):  # a thread that starts meanwhile may have the place of before
        if not sum(_place_threads(each, cpus) for each in (pid, *descendant_pids(pid))):
            return


def _place_threads(pid: int, cpus: Collection[int]) -> bool:
    moved = False
    with contextlib.suppress(OSError):  # it has ended
        for entry in os.scandir(_PROC / str(pid) / "task"):
            with contextlib.suppress(OSError):
                if os.sched_getaffinity(int(entry.name)) != cpus:
                    os.sched_setaffinity(int(entry.name), cpus)
                    moved = True
    return moved
