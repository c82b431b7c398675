"""How often each account has called each operation: what AWS has of microVMs in CloudWatch (`AWS/Usage`, `CallCount`).

Counted by the minute, kept for a day, and begun anew with each start of the server; the audit trail is what lasts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from emberbox.model.iam.audit import AuditRecord, KnownSender

COUNTED_SOURCE: Final = "lambda.amazonaws.com"
MINUTE_S: Final = 60
KEPT_MINUTES: Final = 24 * 60


class CallCounts:
    """Counts answered requests.

    Args:
        operations: the names that are counted; nobody can make up more.
    """

    def __init__(self, operations: Iterable[str]) -> None:
        self._operations = frozenset(operations)
        self._counts: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)

    def add(self, record: AuditRecord) -> None:
        """Count a request, where it is one of microVMs and somebody known has signed it."""
        if record.source != COUNTED_SOURCE or record.operation not in self._operations:
            return
        if not isinstance(record.sender, KnownSender):
            return
        minutes = self._counts[record.sender.account_id, record.operation]
        minute = int(record.happened_at.timestamp()) // MINUTE_S
        minutes[minute] = minutes.get(minute, 0) + 1
        if len(minutes) > KEPT_MINUTES:
            del minutes[min(minutes)]

    def operations_of(self, account_id: str) -> list[str]:
        """Return the operations that an account has called, by name."""
        return sorted(operation for owner, operation in self._counts if owner == account_id)

    def between(
        self, account_id: str, operation: str, start: datetime, end: datetime, period_s: int
    ) -> list[tuple[datetime, int]]:
        """Return how many calls there were in each period that had any, oldest first.

        Args:
            account_id: whose.
            operation: which.
            start: the first moment, rounded down to a period.
            end: the first moment that does not count.
            period_s: seconds, a multiple of 60.
        """
        first = int(start.timestamp()) // period_s * period_s
        found: dict[int, int] = defaultdict(int)
        for minute, count in self._counts.get((account_id, operation), {}).items():
            if first <= minute * MINUTE_S < end.timestamp():
                found[minute * MINUTE_S // period_s * period_s] += count
        return [(datetime.fromtimestamp(at, UTC), found[at]) for at in sorted(found)]
