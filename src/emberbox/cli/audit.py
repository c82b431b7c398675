"""`emberbox audit`: the audit trail, read through the API."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from emberbox.cli.access import given, own_client
from emberbox.model.errors import HostError

_POLL_S = 0.5
_PAGE = 1000
_OWN_EVENT = "LookupAuditEvents"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def audit(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(help="From then on: 10m, 2h, 3d, or 2026-11-24T10:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to then.")] = None,
    event: Annotated[str | None, typer.Option(help="Only this operation, such as RunMicrovm.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user or role.")] = None,
    error: Annotated[str | None, typer.Option(help="Only refusals with this code.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole records, one JSON object a line.")] = False,
) -> None:
    """Show who did what, from where, and how it ended; oldest first."""
    filters = given(
        startTime=since and parse_moment(since),
        endTime=until and parse_moment(until),
        eventName=event,
        username=user,
        errorCode=error,
    )
    try:
        for found in read_events(own_client(), filters, follow=follow):
            record = found["auditEvent"]
            print(record if as_json else render(json.loads(record)), flush=True)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()


def read_events(client: Any, filters: Mapping[str, Any], *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield events; whoever follows does not see himself looking."""
    token: str | None = None
    while True:
        page = client.lookup_audit_events(**filters, **given(nextToken=token), maxResults=_PAGE)
        token = page["nextToken"]
        for event in page["events"]:
            if not follow or event["eventName"] != _OWN_EVENT:
                yield event
        if page["atEnd"] and not follow:
            return
        if page["atEnd"]:
            time.sleep(_POLL_S)


def render(record: Mapping[str, Any]) -> str:
    """Return a record as a line: time, outcome, operation, who, whence, and what it was about."""
    moment = datetime.fromisoformat(record["eventTime"]).astimezone()
    identity = record.get("userIdentity") or {}
    outcome = record.get("errorCode") or str(record.get("httpStatus", "-"))
    resources = " ".join(resource["ARN"] for resource in (record.get("resources") or [])[:1])
    who = identity.get("arn") or identity.get("accessKeyId") or "unknown"
    where = record.get("sourceIPAddress") or "-"
    return f"{moment:%Y-%m-%d %H:%M:%S} {outcome} {record['eventName']} {who} {where} {resources}".rstrip()


def parse_moment(text: str) -> datetime:
    """Read a moment: a time ago, or a date.

    Raises:
        HostError: it is neither.
    """
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise HostError(f"'{text}' is no time; write 10m, 2h, 3d or 2026-11-24T10:00") from None
