"""The audit trail: one record for each request, written in batches beside the requests; and looking it up."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from emberbox.control.access.identities import Identities
from emberbox.control.requests.batches import Batches
from emberbox.control.requests.paging import PageRequest, PageTokens
from emberbox.model.caller import Caller
from emberbox.model.iam.audit import AuditEvent, AuditGap, AuditRecord, Stranger
from emberbox.store.audit import AuditFiles, Place
from emberbox.store.audit_lines import read_line, write_line

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S: Final = 0.2
PENDING_MAX: Final = 20_000
"""Records that wait for a disk that takes none; beyond, the oldest are lost, and a record says how many."""

STRANGERS_PER_BATCH: Final = 5
"""Records of requests that nobody known has signed; more are only counted, or a stranger could push all others out."""

DISK_FULL: Final = "the disk took no more"
TOO_MANY_STRANGERS: Final = "too many requests of unknown senders"

_SCAN_CHARACTERS: Final = 4 << 20
_LIST: Final = "LookupAuditEvents"


@dataclass(frozen=True, slots=True)
class LookupAuditEvents:
    """Asks for what was recorded; None asks for any.

    Args:
        page: which page; its token says where the last one ended, also at the end of the trail.
        operation: the operation's name.
        user_name: of the user or the role.
        error_code: of the refusal.
        start: at that moment or after it.
        end: before that moment.
    """

    page: PageRequest
    operation: str | None = None
    user_name: str | None = None
    error_code: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def wants(self, event: AuditEvent) -> bool:
        """Say whether an event is asked for."""
        return (
            self.operation in (None, event.operation)
            and self.user_name in (None, event.user_name)
            and self.error_code in (None, event.error_code)
            and (self.start is None or self.start <= event.happened_at)
            and (self.end is None or event.happened_at < self.end)
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events; where to go on, now or later; and whether the trail ended there."""

    events: list[AuditEvent]
    next_token: str
    at_end: bool


class AuditTrail:
    """Takes records without making anybody wait.

    Args:
        files: where they go.
    """

    def __init__(self, files: AuditFiles) -> None:
        self._files = files
        self._pending: list[AuditRecord] = []
        self._lost: Counter[str] = Counter()
        self._strangers = 0
        self._is_failing = False
        self._writing = asyncio.Lock()
        self._batches = Batches(self.flush, FLUSH_INTERVAL_S)

    def start(self) -> None:
        """Begin to write."""
        self._batches.start()

    def add(self, record: AuditRecord) -> None:
        """Take a record."""
        is_stranger = isinstance(record.sender, Stranger)
        self._strangers += is_stranger
        if is_stranger and self._strangers > STRANGERS_PER_BATCH:
            self._lost[TOO_MANY_STRANGERS] += 1
        else:
            self._pending.append(record)
        self._batches.ask()

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._batches.close()

    async def flush(self) -> None:
        """Write what is there now; what the disk does not take waits for the next time."""
        async with self._writing:
            records, self._pending = self._pending, []
            lost, self._lost = self._lost, Counter()
            self._strangers = 0
            if not records and not lost:
                return
            try:
                await asyncio.to_thread(self._write, records, lost)
                self._is_failing = False
            except OSError as error:
                self._keep(records, lost, error)

    def _keep(self, records: list[AuditRecord], lost: Counter[str], error: OSError) -> None:
        if not self._is_failing:
            log.error("audit records cannot be written yet: %s", error)
        self._is_failing = True
        records += self._pending
        self._pending = records[-PENDING_MAX:]
        self._lost += lost
        self._lost[DISK_FULL] += len(records) - len(self._pending)
        self._batches.ask()

    def _write(self, records: list[AuditRecord], lost: Counter[str]) -> None:
        now = datetime.now(UTC)
        gaps = [write_line(AuditGap(now, reason, count)) for reason, count in lost.items() if count]
        self._files.append([*gaps, *(write_line(record) for record in records)])


class AuditService:
    """Looks records up.

    Args:
        trail: flushed first, so that a caller finds its own last request.
        files: read from.
        page_tokens: say where to go on.
        identities: says which account is the operator's.
    """

    def __init__(self, trail: AuditTrail, files: AuditFiles, page_tokens: PageTokens, identities: Identities) -> None:
        self._trail = trail
        self._files = files
        self._page_tokens = page_tokens
        self._identities = identities

    async def lookup(self, caller: Caller, asked: LookupAuditEvents) -> AuditPage:
        """Return a page of what was recorded after the last one; it may be empty.

        To the operator everything is shown, to others what is their account's.

        Raises:
            ValidationError: the page's token is none of ours.
        """
        await self._trail.flush()
        token = asked.page.token
        place = Place() if token is None else Place(*self._page_tokens.open(_LIST, token))
        events, place, at_end = await asyncio.to_thread(self._scan, caller.account_id, asked, place)
        return AuditPage(events, self._page_tokens.seal(_LIST, [place.name, place.offset]), at_end)

    def _scan(self, account_id: str, asked: LookupAuditEvents, place: Place) -> tuple[list[AuditEvent], Place, bool]:
        everything = account_id == self._identities.operator_account
        scanned = 0
        events: list[AuditEvent] = []
        for line, behind in self._files.read(place):
            if len(events) == asked.page.limit or scanned > _SCAN_CHARACTERS:
                return events, place, False
            place, scanned = behind, scanned + len(line)
            try:
                event = read_line(line)
            except ValueError:  # torn by a power cut
                continue
            if (everything or event.account_id == account_id) and asked.wants(event):
                events.append(event)
        return events, place, True
