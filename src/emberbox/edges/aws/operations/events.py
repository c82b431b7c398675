"""ListEvents."""

from __future__ import annotations

from typing import Final

from emberbox.control.server.events import EventService, ListEvents
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.records import Event

DEFAULT_EVENTS: Final = 50


def handlers(events: EventService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def list_events(caller: Caller, parameters: Parameters) -> Members:
        return {"items": [show_event(event) for event in events.list_events(caller, read_list_events(parameters))]}

    return {"ListEvents": list_events}


def read_list_events(parameters: Parameters) -> ListEvents:
    """Return what is asked for."""
    return ListEvents(
        microvm_id=parameters.get("microvmIdentifier"),
        after=parameters.get("afterEventId"),
        limit=parameters.get("maxResults", DEFAULT_EVENTS),
    )


def show_event(event: Event) -> Members:
    """Return an event as the API shows it."""
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
