"""ListEvents: what happened to microVMs, when, why and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from emberbox.model.caller import Caller, Handler
from emberbox.model.records import Event
from emberbox.store.events import EventStore

DEFAULT_EVENTS: Final = 50


class EventService:
    """Answers ListEvents, and forgets old events.

    Args:
        store: the events.
        retention_s: for how many seconds they are kept.
    """

    def __init__(self, store: EventStore, retention_s: float) -> None:
        self._store = store
        self._retention = timedelta(seconds=retention_s)

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"ListEvents": self.list_events}

    async def list_events(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListEvents: those after one that the caller knows, or the newest."""
        limit = parameters.get("maxResults", DEFAULT_EVENTS)
        microvm_id, after = parameters.get("microvmIdentifier"), parameters.get("afterEventId")
        return {"items": [_show(event) for event in self._store.list_page(caller.account_id, microvm_id, after, limit)]}

    def forget_old(self) -> None:
        """Remove what has been kept long enough."""
        self._store.forget(datetime.now(UTC) - self._retention)


def _show(event: Event) -> dict[str, Any]:
    return {
        "eventId": event.id,
        "time": event.happened_at,
        "microvmId": event.microvm_id,
        "fromState": event.from_state,
        "state": event.state,
        "actor": event.actor,
        "reason": event.reason,
        "durationInMilliseconds": event.duration_ms,
    }
