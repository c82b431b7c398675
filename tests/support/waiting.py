"""Waiting for a condition with a deadline: the only way in which these tests wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from emberbox.time_limits import limit_s

POLL_S = 0.1

PATIENCE_S = 240.0
"""No wait ends sooner: who waits for what must come learns nothing from a shorter one but how busy the machine is."""

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = PATIENCE_S, poll_s: float = POLL_S) -> T:
    """Return the first true answer of `probe`; fail, naming `what`, when none comes in time."""
    timeout_s = limit_s(max(timeout_s, PATIENCE_S))
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {found!r})")
        time.sleep(min(limit_s(poll_s), 1))


async def wait_for_async(what: str, probe: Callable[[], T | None], timeout_s: float = PATIENCE_S) -> T:
    """Do the same inside an event loop, which goes on meanwhile."""
    loop = asyncio.get_running_loop()
    timeout_s = limit_s(max(timeout_s, PATIENCE_S))
    deadline = loop.time() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {found!r})")
        await asyncio.sleep(POLL_S / 10)
