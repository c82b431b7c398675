"""The audit trail: one record for each request, written in batches beside the requests; and looking it up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from emberbox.control.access.identities import Identities
from emberbox.control.requests.batches import Batches
from emberbox.control.requests.paging import PageTokens
from emberbox.model.caller import Caller, Handler
from emberbox.store.audit import AuditFiles, Place

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S: Final = 0.2
PENDING_MAX: Final = 20_000
"""Records that wait for a disk that takes none; beyond, the oldest are lost, and a record says how many."""

STRANGERS_PER_BATCH: Final = 5
"""Records of requests that nobody known has signed; more are only counted, or a stranger could push all others out."""

LOST_EVENT: Final = "AuditRecordsLost"
DISK_FULL: Final = "the disk took no more"
TOO_MANY_STRANGERS: Final = "too many requests of unknown senders"

PAGE_EVENTS: Final = 100
_SCAN_CHARACTERS: Final = 4 << 20
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode

Record = Mapping[str, Any]


class AuditTrail:
    """Takes records without making anybody wait.

    Args:
        files: where they go.
    """

    def __init__(self, files: AuditFiles) -> None:
        self._files = files
        self._pending: list[Record] = []
        self._lost: Counter[str] = Counter()
        self._strangers = 0
        self._is_failing = False
        self._writing = asyncio.Lock()
        self._batches = Batches(self.flush, FLUSH_INTERVAL_S)

    def start(self) -> None:
        """Begin to write."""
        self._batches.start()

    def add(self, record: Record) -> None:
        """Take a record; it must not change any more."""
        is_stranger = (record.get("userIdentity") or {}).get("type") == "Unknown"
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

    def _keep(self, records: list[Record], lost: Counter[str], error: OSError) -> None:
        if not self._is_failing:
            log.error("audit records cannot be written yet: %s", error)
        self._is_failing = True
        records += self._pending
        self._pending = records[-PENDING_MAX:]
        self._lost += lost
        self._lost[DISK_FULL] += len(records) - len(self._pending)
        self._batches.ask()

    def _write(self, records: list[Record], lost: Counter[str]) -> None:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        gaps = [
            {"eventName": LOST_EVENT, "eventTime": now, "eventSource": "emberbox", "reason": reason, "count": count}
            for reason, count in lost.items()
            if count
        ]
        self._files.append([_encode(record) for record in (*gaps, *records)])


class AuditService:
    """Answers LookupAuditEvents.

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

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"LookupAuditEvents": self.lookup}

    async def lookup(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """LookupAuditEvents: a page of what was recorded after the last one; it may be empty."""
        await self._trail.flush()
        token = parameters.get("nextToken")
        place = Place() if token is None else Place(*self._page_tokens.open("LookupAuditEvents", token))
        events, place, at_end = await asyncio.to_thread(self._scan, caller.account_id, parameters, place)
        token = self._page_tokens.seal("LookupAuditEvents", [place.name, place.offset])
        return {"events": events, "nextToken": token, "atEnd": at_end}

    def _scan(
        self, account_id: str, parameters: dict[str, Any], place: Place
    ) -> tuple[list[dict[str, Any]], Place, bool]:
        everything = account_id == self._identities.operator_account
        page_events, scanned = parameters.get("maxResults", PAGE_EVENTS), 0
        events: list[dict[str, Any]] = []
        for line, behind in self._files.read(place):
            if len(events) == page_events or scanned > _SCAN_CHARACTERS:
                return events, place, False
            place, scanned = behind, scanned + len(line)
            try:
                record = json.loads(line)
            except ValueError:  # torn by a power cut
                continue
            if (everything or record.get("recipientAccountId") == account_id) and _is_wanted(record, parameters):
                events.append(_show(record, line))
        return events, place, True


def _is_wanted(record: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    fields = (
        ("eventName", record.get("eventName")),
        ("username", _user_name(record)),
        ("errorCode", record.get("errorCode")),
    )
    if any(parameters.get(name, found) != found for name, found in fields):
        return False
    moment = _moment(record)
    start, end = parameters.get("startTime", moment), parameters.get("endTime")
    return bool(start <= moment and (end is None or moment < end))


def _moment(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["eventTime"])


def _user_name(record: Mapping[str, Any]) -> str | None:
    identity = record.get("userIdentity") or {}
    name: str | None = identity.get("userName")
    return name


def _show(record: Mapping[str, Any], line: str) -> dict[str, Any]:
    return {
        "eventId": record.get("eventID", ""),
        "eventName": record["eventName"],
        "eventTime": _moment(record),
        "username": _user_name(record),
        "errorCode": record.get("errorCode"),
        "auditEvent": line.rstrip("\n"),
    }
