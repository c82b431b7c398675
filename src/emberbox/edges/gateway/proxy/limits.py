"""How many requests a second one microVM's endpoint takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RequestRates:
    """A token bucket for each microVM that has a limit.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, microvm_id: str, requests_per_s: int) -> bool:
        """Take one request out of a microVM's bucket; say whether there was one."""
        if not requests_per_s:
            return True
        now = self._clock()
        bucket = self._buckets.setdefault(microvm_id, _Bucket(requests_per_s, now))
        bucket.tokens = min(requests_per_s, bucket.tokens + (now - bucket.filled_at) * requests_per_s)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        self._forget_full(now)
        return True

    def _forget_full(self, now: float) -> None:
        """A bucket that nobody has used for a second is full, and need not be kept; the oldest is looked at."""
        microvm_id, oldest = next(iter(self._buckets.items()))
        if now - oldest.filled_at > 1:
            del self._buckets[microvm_id]
