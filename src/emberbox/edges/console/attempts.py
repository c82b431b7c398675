"""How often a login may fail: by where it comes from, and by the key that it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FAILURES_MAX: Final = 10
WINDOW_S: Final = 60.0
_NAMES_MAX: Final = 4096


class Attempts:
    """Counts failures of the last minute.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def wait_s(self, *names: str) -> float:
        """Return for how many seconds a login is refused, whatever it has; 0 where it may be tried.

        Args:
            names: what it is counted by, such as its source.
        """
        now = self._clock()
        waits = [0.0]
        for name in names:
            recent = [moment for moment in self._failures.get(name, ()) if now - moment < WINDOW_S]
            if len(recent) >= FAILURES_MAX:
                waits.append(recent[-FAILURES_MAX] + WINDOW_S - now)
        return max(waits)

    def note_failure(self, *names: str) -> None:
        """Count a login that failed."""
        now = self._clock()
        for name in names:
            recent = [moment for moment in self._failures.pop(name, ()) if now - moment < WINDOW_S]
            self._failures[name] = [*recent[1 - FAILURES_MAX :], now]
        while len(self._failures) > _NAMES_MAX:
            del self._failures[next(iter(self._failures))]
