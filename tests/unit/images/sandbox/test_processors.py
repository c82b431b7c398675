"""On which processors a sandbox's threads run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emberbox.images.sandbox import processors
from emberbox.images.sandbox.processors import Reading, choose, keep_together, place, read
from support.waiting import wait_for_async

EVERYWHERE = os.sched_getaffinity(0)
ONE = {min(EVERYWHERE)}

STARTING = """
import os, subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
sys.stdin.readline()
later = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(later.pid, flush=True)
sys.stdin.readline()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
print("ended", flush=True)
try:
    sys.stdin.readline()
finally:
    child.kill(); later.kill()
"""
"""Threads and a child before it is placed, a child afterwards, and one that uses half a second and ends."""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """Give a process that starts others; it does the next thing for each line."""
    command = [sys.executable, "-c", STARTING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.communicate("\n\n\n", timeout=60)


def ask(parent: subprocess.Popen[str], line: str = "\n") -> str:
    """Let the parent do the next thing; return what it says."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(line)
    parent.stdin.flush()
    return parent.stdout.readline().strip()


def find_places(pid: int) -> list[set[int]]:
    return [os.sched_getaffinity(int(entry.name)) for entry in Path(f"/proc/{pid}/task").iterdir()]


def test_threads_and_children_are_placed_and_what_starts_later(parent: subprocess.Popen[str]) -> None:
    child = int(ask(parent, ""))
    place(parent.pid, ONE)
    assert find_places(parent.pid) == [ONE, ONE]
    assert find_places(child) == [ONE]
    assert find_places(int(ask(parent))) == [ONE]
    assert os.sched_getaffinity(0) == EVERYWHERE
    place(parent.pid, EVERYWHERE)
    assert find_places(child) == [EVERYWHERE]


def test_what_children_used_counts_when_they_have_ended(parent: subprocess.Popen[str]) -> None:
    ask(parent, "")
    ask(parent)
    before = read(parent.pid).used_s
    assert ask(parent) == "ended"
    assert read(parent.pid).used_s - before >= 0.4


def test_a_process_that_has_ended_is_no_error() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    place(ended.pid, ONE)
    assert read(ended.pid).used_s == 0


def test_every_processor_is_read() -> None:
    assert set(read(os.getpid()).idle_s) >= EVERYWHERE


@pytest.mark.parametrize(
    ("used_s", "idle_s", "chosen"),
    [
        (1.2, {0: 0.3, 1: 0.5}, 1),  # in turn, on a machine with room
        (0.1, {0: 0.9, 1: 0.9}, 0),  # it waits for something
        (1.9, {0: 0.1, 1: 0.0}, None),  # parallel
        (1.7, {0: 0.5, 1: 0.8, 2: 1.0}, None),  # parallel, and there is more room
        (0.6, {0: 0.1, 1: 0.1}, None),  # others want the processors
        (1.2, {0: 0.0, 1: 0.1, 2: 0.5}, 2),
    ],
)
def test_one_processor_is_chosen_while_it_is_enough(
    used_s: float, idle_s: dict[int, float], chosen: int | None
) -> None:
    before = Reading(10.0, dict.fromkeys(idle_s, 100.0))
    after = Reading(10.0 + used_s, {cpu: 100.0 + idle for cpu, idle in idle_s.items()})
    assert choose(before, after, 1.0, idle_s) == chosen
    twice = Reading(10.0 + 2 * used_s, {cpu: 100.0 + 2 * idle for cpu, idle in idle_s.items()})
    assert choose(before, twice, 2.0, idle_s) == chosen


async def test_it_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On all, on one, and on all as long as what it does is parallel."""
    used = iter([0.0, 0.0, 0.0, 100.0, 200.0, 200.0])
    placed: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {4, 7})
    monkeypatch.setattr(processors, "read", make_read(used))
    monkeypatch.setattr(processors, "place", lambda _pid, cpus: placed.append(set(cpus)))
    monkeypatch.setattr(processors, "LOOK_S", 0.01)
    monkeypatch.setattr(processors, "ALONE_S", 0.01)
    keeping = asyncio.create_task(keep_together(1))
    try:
        await wait_for_async("four placements", lambda: len(placed) >= 4 or None)
    finally:
        keeping.cancel()
    assert placed[:4] == [{4, 7}, {7}, {4, 7}, {7}]


def make_read(used: Iterator[float]) -> Callable[[int], Reading]:
    """Give readings one after another, of a machine with room; the last one again and again."""
    idle, last = 0.0, 0.0

    def take(_pid: int) -> Reading:
        nonlocal idle, last
        idle, last = idle + 10.0, next(used, last)
        return Reading(last, {4: idle, 7: 2 * idle})

    return take


async def test_with_one_processor_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    await keep_together(1)
