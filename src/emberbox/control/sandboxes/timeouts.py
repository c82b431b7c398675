"""When the timeouts of sandboxes are over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

from emberbox.background import RETRY_INTERVAL_S
from emberbox.control.microvms.timers import Timers
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)


class Timeouts:
    """Calls somebody when a timeout is over.

    Args:
        timers: keeps the moments.
        end: called with the sandbox's id, and again where it raises HostError.
    """

    def __init__(self, timers: Timers, end: Callable[[str], None]) -> None:
        self._timers = timers
        self._end = end

    def watch(self, sandbox_id: str, ends_at: datetime) -> None:
        """Let a sandbox's timeout be over at a moment, in place of an earlier or later one."""
        self._set(sandbox_id, (ends_at - datetime.now(UTC)).total_seconds())

    def try_again(self, sandbox_id: str) -> None:
        """Let it be over once more, soon."""
        self._set(sandbox_id, RETRY_INTERVAL_S)

    def cancel(self, sandbox_id: str) -> None:
        """Let it never be over."""
        self._timers.cancel(_key(sandbox_id))

    def _set(self, sandbox_id: str, delay_s: float) -> None:
        self._timers.set(_key(sandbox_id), delay_s, lambda: self._end_surely(sandbox_id))

    def _end_surely(self, sandbox_id: str) -> None:
        try:
            self._end(sandbox_id)
        except HostError as error:
            log.error("the timeout of %s cannot be acted on yet: %s", sandbox_id, error)
            self.try_again(sandbox_id)


def _key(sandbox_id: str) -> Hashable:
    return (sandbox_id, "sandbox timeout")
