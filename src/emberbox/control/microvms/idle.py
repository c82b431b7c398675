"""The idle policy of one microVM: when no byte has crossed its endpoint for so long, it is suspended.

Only the endpoint counts (dossier, section 6.6): not what the application sends elsewhere, not a stream that is open
and silent, not a token that is made. Bytes are reported up to a second late, so a little time is added; AWS is seen
to suspend six to eight seconds late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emberbox.control.microvms.timers import Timers
from emberbox.model.launch_requests import IdlePolicy

REPORT_DELAY_S: Final = 2.0


class IdleTimer:
    """One microVM's idle time.

    Attributes:
        limit_s: how long it may be idle, in seconds; None is for ever.

    Args:
        timers: keeps its deadline.
        microvm_id: names it.
        policy: None means that it is never idle.
        on_idle: called when it has been idle for as long as its policy says.
    """

    def __init__(
        self, timers: Timers, microvm_id: str, policy: IdlePolicy | None, on_idle: Callable[[], object]
    ) -> None:
        self._timers = timers
        self._key = (microvm_id, "idle")
        self.limit_s: int | None = None if policy is None else policy.max_idle_s
        self._on_idle = on_idle
        self._runs = False

    @property
    def is_over(self) -> bool:
        """Whether it has run out and nothing has happened since."""
        return self._runs and self._key not in self._timers

    def start(self) -> None:
        """Begin to count: the microVM runs."""
        self._runs = True
        self.restart()

    def restart(self) -> None:
        """Count from now: bytes have crossed the endpoint."""
        if self.limit_s is not None and self._runs:
            self._timers.set(self._key, self.limit_s + REPORT_DELAY_S, self._on_idle)

    def stop(self) -> None:
        """Count no more: the microVM does not run."""
        self._runs = False
        self._timers.cancel(self._key)
