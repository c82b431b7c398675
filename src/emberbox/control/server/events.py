"""What happened to microVMs, when, why and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from emberbox.model.caller import Caller
from emberbox.model.records import Event
from emberbox.store.events import EventStore


@dataclass(frozen=True, slots=True)
class ListEvents:
    """Asks for events.

    Args:
        microvm_id: of this microVM alone.
        after: those after the event of this number, oldest first; None asks for the newest.
        limit: so many at most.
    """

    microvm_id: str | None
    after: int | None
    limit: int


class EventService:
    """Tells of events, and forgets old ones.

    Args:
        store: the events.
        retention_s: for how many seconds they are kept.
    """

    def __init__(self, store: EventStore, retention_s: float) -> None:
        self._store = store
        self._retention = timedelta(seconds=retention_s)

    def list_events(self, caller: Caller, asked: ListEvents) -> list[Event]:
        """Return events of the caller's account."""
        return self._store.list_page(caller.account_id, asked.microvm_id, asked.after, asked.limit)

    def forget_old(self) -> None:
        """Remove what has been kept long enough."""
        self._store.forget(datetime.now(UTC) - self._retention)
