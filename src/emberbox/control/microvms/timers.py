"""Deadlines of all microVMs: one heap and one timer of the event loop, however many there are.

    set(key, delay) ──► heap of moments ──► the loop's timer, for the earliest ──► action()

Deadlines are most often moved further away (every byte on an endpoint moves one), and that costs a dictionary's
store: the heap is left alone, and an entry that comes up too early is put back. The clock is the event loop's, which
is monotonic: setting the machine's time fires nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

log = logging.getLogger(__name__)

_SPARE_ENTRIES = 1000


@dataclass(slots=True)
class _Deadline:
    """What is to happen at `due`; the heap holds it at `queued`, which is never later."""

    due: float
    queued: float
    action: Callable[[], object]


class Timers:
    """Deadlines by key, such as `(microvm_id, "idle")`. Belongs to one event loop."""

    def __init__(self) -> None:
        self._deadlines: dict[Hashable, _Deadline] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._order = itertools.count()  # so that two entries of one moment are never compared by their keys
        self._wake: asyncio.Handle | None = None
        self._wakes_at = 0.0

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._deadlines

    def set(self, key: Hashable, delay_s: float, action: Callable[[], object]) -> None:
        """Call `action` once, in `delay_s` seconds from now. It replaces an earlier deadline of the same key.

        Args:
            key: names the deadline.
            delay_s: seconds; what is not positive is due at once, yet never before this call has returned.
            action: must not block. An error that it raises is logged and harms no other deadline.
        """
        due = asyncio.get_running_loop().time() + max(delay_s, 0)
        known = self._deadlines.get(key)
        if known is not None and known.queued <= due:
            known.due, known.action = due, action
            return
        self._deadlines[key] = _Deadline(due, due, action)
        self._push(due, key)
        self._arm()

    def cancel(self, key: Hashable) -> None:
        """Forget a deadline. A key that has none is no error."""
        self._deadlines.pop(key, None)
        if len(self._heap) > 2 * len(self._deadlines) + _SPARE_ENTRIES:
            self._compact()

    def close(self) -> None:
        """Forget all deadlines."""
        self._deadlines.clear()
        self._heap.clear()
        self._arm()

    def _push(self, moment: float, key: Hashable) -> None:
        heapq.heappush(self._heap, (moment, next(self._order), key))

    def _compact(self) -> None:
        """Drop the heap's entries of cancelled deadlines: those of long lifetimes would stay for hours."""
        self._heap = [(deadline.queued, next(self._order), key) for key, deadline in self._deadlines.items()]
        heapq.heapify(self._heap)
        self._arm()

    def _arm(self) -> None:
        """Let the loop wake us at the earliest moment of the heap."""
        if self._wake is not None:
            if self._heap and self._wakes_at == self._heap[0][0]:
                return
            self._wake.cancel()
            self._wake = None
        if self._heap:
            self._wakes_at = self._heap[0][0]
            self._wake = asyncio.get_running_loop().call_at(self._wakes_at, self._fire)

    def _fire(self) -> None:
        self._wake = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            moment, _, key = heapq.heappop(self._heap)
            deadline = self._deadlines.get(key)
            if deadline is None or deadline.queued != moment:
                continue  # cancelled, or replaced by an earlier one
            if deadline.due > now:
                deadline.queued = deadline.due
                self._push(deadline.due, key)
                continue
            del self._deadlines[key]
            self._call(key, deadline.action)
        self._arm()

    @staticmethod
    def _call(key: Hashable, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            log.exception("the deadline %s could not be acted on", key)
