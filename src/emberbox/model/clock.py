"""Instants from which time is counted, whatever becomes of the machine's clock and of this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on this machine.

    Args:
        wall: seconds since 1970, by the machine's clock, which may be set.
        boot: which start of the machine `uptime` belongs to (/proc/sys/kernel/random/boot_id).
        uptime: seconds since that start; nobody can set it, and it goes on while the machine sleeps
            (clock_gettime(2), CLOCK_BOOTTIME).
    """

    wall: float
    boot: str
    uptime: float

    @classmethod
    def now(cls) -> Instant:
        """Return the present."""
        return cls(time.time(), _boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Instant:
        """Return what `to_json` wrote."""
        return cls(float(value["wall"]), str(value["boot"]), float(value["uptime"]))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"wall": self.wall, "boot": self.boot, "uptime": self.uptime}

    def elapsed_s(self, now: Instant | None = None) -> float:
        """Return the seconds since then, never negative.

        Only after the machine was started anew does the wall clock count: there is nothing else to go by.
        """
        now = now or Instant.now()
        past = now.uptime - self.uptime if now.boot == self.boot else now.wall - self.wall
        return max(past, 0.0)


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
