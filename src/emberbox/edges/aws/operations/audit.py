"""LookupAuditEvents."""

from __future__ import annotations

from typing import Final

from emberbox.control.access.audit import AuditService, LookupAuditEvents
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.pages import read_page
from emberbox.model.caller import Caller
from emberbox.model.iam.audit import AuditEvent

PAGE_EVENTS: Final = 100


def handlers(audit: AuditService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def lookup(caller: Caller, parameters: Parameters) -> Members:
        page = await audit.lookup(caller, read_lookup(parameters))
        events = [show_event(event) for event in page.events]
        return {"events": events, "nextToken": page.next_token, "atEnd": page.at_end}

    return {"LookupAuditEvents": lookup}


def read_lookup(parameters: Parameters) -> LookupAuditEvents:
    """Return what is asked for."""
    return LookupAuditEvents(
        page=read_page(parameters, PAGE_EVENTS),
        operation=parameters.get("eventName"),
        user_name=parameters.get("username"),
        error_code=parameters.get("errorCode"),
        start=parameters.get("startTime"),
        end=parameters.get("endTime"),
    )


def show_event(event: AuditEvent) -> Members:
    """Return a record as the API shows it."""
    return {
        "eventId": event.id,
        "eventName": event.operation,
        "eventTime": event.happened_at,
        "username": event.user_name,
        "errorCode": event.error_code,
        "auditEvent": event.line,
    }
