"""The two ends that a microVM's policies set: of its whole life, and of the time that it may be suspended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Final

from emberbox.background import RETRY_INTERVAL_S
from emberbox.control.microvms.timers import Timers
from emberbox.model.errors import HostError
from emberbox.model.records import Microvm

log = logging.getLogger(__name__)

LIFETIME_OVER: Final = "MicroVM exceeded maximum lifetime"
SUSPENDED_TOO_LONG: Final = "MicroVM exceeded maximum suspended duration"


class Deadlines:
    """One microVM's deadlines; they are counted from the moments in its row, so a new server goes on counting.

    Args:
        timers: keeps them.
        microvm_id: whose they are.
        end: called with the reason when one is over, and again where it raises HostError.
    """

    def __init__(self, timers: Timers, microvm_id: str, end: Callable[[str], object]) -> None:
        self._timers = timers
        self._lifetime, self._suspended = (microvm_id, "lifetime"), (microvm_id, "suspended")
        self._end = end

    def start_lifetime(self, microvm: Microvm) -> None:
        """End it at its maximum duration, counted from its launch, suspended time included."""
        left = microvm.request.max_duration_s - microvm.started.elapsed_s()
        self._timers.set(self._lifetime, left, lambda: self._end_surely(self._lifetime, LIFETIME_OVER))

    def start_suspended(self, microvm: Microvm) -> None:
        """End it when it has been suspended for as long as its policy allows."""
        policy, suspended = microvm.request.idle_policy, microvm.suspended
        if policy is not None and suspended is not None:
            left = policy.suspended_s - suspended.elapsed_s()
            self._timers.set(self._suspended, left, lambda: self._end_surely(self._suspended, SUSPENDED_TOO_LONG))

    def _end_surely(self, key: Hashable, reason: str) -> None:
        try:
            self._end(reason)
        except HostError as error:
            log.error("%s cannot be ended yet (%s): %s", key, reason, error)
            self._timers.set(key, RETRY_INTERVAL_S, lambda: self._end_surely(key, reason))

    def stop_suspended(self) -> None:
        """It is in use: nothing may end it under way."""
        self._timers.cancel(self._suspended)

    def stop(self) -> None:
        """It has ended, or this server lets go of it."""
        self._timers.cancel(self._lifetime)
        self._timers.cancel(self._suspended)
