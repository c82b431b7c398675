"""The CloudWatch Logs operations that `aws logs` and boto3 need to read build logs and applications' output."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from emberbox.background import in_thread
from emberbox.control.logs.patterns import compile_log_pattern
from emberbox.control.requests.paging import PageTokens
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import AlreadyExistsError, NotFoundError, ValidationError
from emberbox.model.records import LogEvent, LogGroup
from emberbox.store.logs import GroupSummary, LogStore, StreamSummary

PAGE_EVENTS: Final = 10_000
PAGE_NAMES: Final = 50
RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""What PutRetentionPolicy takes ("CloudWatch Logs API Reference", PutRetentionPolicy)."""


class LogService:
    """Answers the log operations.

    Args:
        store: the events.
        page_tokens: for the lists.
        region: the region played, for ARNs.
    """

    def __init__(self, store: LogStore, page_tokens: PageTokens, region: str) -> None:
        self._store = store
        self._page_tokens = page_tokens
        self._region = region

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {
            "CreateLogGroup": self.create_group,
            "DeleteLogGroup": self.delete_group,
            "DeleteLogStream": self.delete_stream,
            "PutRetentionPolicy": self.put_retention,
            "DeleteRetentionPolicy": self.delete_retention,
            "DescribeLogGroups": self.describe_groups,
            "DescribeLogStreams": self.describe_streams,
            "GetLogEvents": self.get_events,
            "FilterLogEvents": self.filter_events,
        }

    async def describe_groups(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeLogGroups, by name."""
        prefix = parameters.get("logGroupNamePrefix", "")
        found = [
            self._show_group(caller, group)
            for group in await in_thread(self._store.groups, caller.account_id, prefix)
            if parameters.get("logGroupNamePattern", "").lower() in group.name.lower()
        ]
        page, token = self._page("DescribeLogGroups", found, parameters)
        return _with_token({"logGroups": page}, token)

    async def describe_streams(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeLogStreams, by name or by the time of the last event."""
        group = self._find_group(caller, parameters)
        streams = await in_thread(self._store.streams, group, parameters.get("logStreamNamePrefix", ""))
        if parameters.get("orderBy") == "LastEventTime":
            streams.sort(key=lambda stream: (stream.last, stream.name))
        if parameters.get("descending"):
            streams.reverse()
        shown = [self._show_stream(caller, stream) for stream in streams]
        page, token = self._page("DescribeLogStreams", shown, parameters)
        return _with_token({"logStreams": page}, token)

    def _show_stream(self, caller: Caller, stream: StreamSummary) -> dict[str, Any]:
        return {
            "logStreamName": stream.name,
            "arn": f"{self._arn(caller, stream.group)}:log-stream:{stream.name}",
            "creationTime": stream.first,
            "firstEventTimestamp": stream.first,
            "lastEventTimestamp": stream.last,
            "lastIngestionTime": stream.last,
        }

    def _show_group(self, caller: Caller, group: GroupSummary) -> dict[str, Any]:
        arn = self._arn(caller, group.name)
        return {
            "logGroupName": group.name,
            "logGroupArn": arn,
            "arn": f"{arn}:*",
            "creationTime": group.created,
            "retentionInDays": group.retention_days,
            "metricFilterCount": 0,
            "logGroupClass": "STANDARD",
        }

    async def create_group(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """CreateLogGroup."""
        for name in ("kmsKeyId", "tags", "deletionProtectionEnabled"):
            if parameters.get(name):
                raise ValidationError(
                    f"{name} is not supported: log groups here have neither keys, tags nor protection"
                )
        group = LogGroup(caller.account_id, parameters["logGroupName"])
        if self._store.has_group(group) or not self._store.make_group(group, _now_ms()):
            raise AlreadyExistsError("The specified log group already exists")
        return {}

    async def delete_group(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteLogGroup: its events go with it; what is written later makes it anew."""
        await in_thread(self._store.remove, self._find_group(caller, parameters))
        return {}

    async def delete_stream(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteLogStream."""
        group, stream = self._find_group(caller, parameters), parameters["logStreamName"]
        self._check_stream(group, stream)
        await in_thread(self._store.remove, group, stream)
        return {}

    async def put_retention(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """PutRetentionPolicy."""
        days = parameters["retentionInDays"]
        if days not in RETENTION_DAYS:
            allowed = ", ".join(map(str, RETENTION_DAYS))
            raise ValidationError(f"Invalid retention value {days}. Valid values are: [{allowed}]")
        return self._set_retention(caller, parameters, days)

    async def delete_retention(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteRetentionPolicy: the server's setting counts again."""
        return self._set_retention(caller, parameters, None)

    def _set_retention(self, caller: Caller, parameters: dict[str, Any], days: int | None) -> Mapping[str, Any]:
        group = self._find_group(caller, parameters)
        self._store.make_group(group, _now_ms())  # it may be there by its events alone
        self._store.set_retention(group, days)
        return {}

    async def get_events(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetLogEvents: one stream in both directions; the same token again means that there is no more yet."""
        group, stream = self._find_group(caller, parameters), parameters["logStreamName"]
        self._check_stream(group, stream)
        limit = min(parameters.get("limit", PAGE_EVENTS), PAGE_EVENTS)
        times = (parameters.get("startTime"), parameters.get("endTime"))
        token = parameters.get("nextToken")
        forward, place = (bool(parameters.get("startFromHead")), None) if token is None else self._open_events(token)
        after, before = (place or 0, None) if forward else (0, place)
        events, _ = await in_thread(self._store.page, group, [stream], after, limit, *times, before, newest=not forward)
        first, last = (events[0].id, events[-1].id) if events else _edges(forward=forward, place=place)
        return {
            "events": [_show_event(event) for event in events],
            "nextForwardToken": self._page_tokens.seal("GetLogEvents", ["f", last]),
            "nextBackwardToken": self._page_tokens.seal("GetLogEvents", ["b", first]),
        }

    def _open_events(self, token: str) -> tuple[bool, int]:
        direction, place = self._page_tokens.open("GetLogEvents", token)
        return direction == "f", int(place)

    async def filter_events(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """FilterLogEvents: all streams of a group; a page may have fewer events than there are, or none."""
        group = self._find_group(caller, parameters)
        matches = compile_log_pattern(parameters.get("filterPattern", ""))
        streams = parameters.get("logStreamNames")
        if "logStreamNamePrefix" in parameters:
            if streams is not None:
                raise ValidationError("logStreamNames and logStreamNamePrefix cannot be given together")
            found_streams = await in_thread(self._store.streams, group, parameters["logStreamNamePrefix"])
            streams = [stream.name for stream in found_streams]
        limit = min(parameters.get("limit", PAGE_EVENTS), PAGE_EVENTS)
        after = self._place("FilterLogEvents", parameters)
        times = (parameters.get("startTime"), parameters.get("endTime"))
        scanned, more = await in_thread(self._store.page, group, streams, after, PAGE_EVENTS, *times)
        found = [event for event in scanned if matches(event.message)]
        page, last = found[:limit], scanned[-1].id if scanned else 0
        if len(found) > limit:
            more, last = True, page[-1].id
        shown = [{**_show_event(event), "logStreamName": event.stream, "eventId": f"{event.id:056d}"} for event in page]
        token = self._page_tokens.seal("FilterLogEvents", [last]) if more else None
        return _with_token({"events": shown, "searchedLogStreams": []}, token)

    def _place(self, operation: str, parameters: dict[str, Any]) -> int:
        token = parameters.get("nextToken")
        return 0 if token is None else int(self._page_tokens.open(operation, token)[0])

    def _page(
        self, operation: str, items: list[dict[str, Any]], parameters: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], str | None]:
        start = self._place(operation, parameters)
        end = start + min(parameters.get("limit", PAGE_NAMES), PAGE_NAMES)
        token = self._page_tokens.seal(operation, [end]) if end < len(items) else None
        return items[start:end], token

    def _find_group(self, caller: Caller, parameters: dict[str, Any]) -> LogGroup:
        group = _named_group(caller, parameters)
        if not self._store.has_group(group):
            raise NotFoundError("The specified log group does not exist.")
        return group

    def _check_stream(self, group: LogGroup, stream: str) -> None:
        if not self._store.events(group, [stream], 0, 1):
            raise NotFoundError("The specified log stream does not exist.")

    def _arn(self, caller: Caller, group: str) -> str:
        return f"arn:aws:logs:{self._region}:{caller.account_id}:log-group:{group}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _edges(*, forward: bool, place: int | None) -> tuple[int, int]:
    """Return where a page without events begins and ends: the token that led there leads there again."""
    if place is None:
        return (1, 0) if forward else (0, 0)
    return (place + 1, place) if forward else (place, place - 1)


def _named_group(caller: Caller, parameters: dict[str, Any]) -> LogGroup:
    """Return the caller's group, given by name or by ARN.

    Raises:
        ValidationError: neither is given.
    """
    name = parameters.get("logGroupName") or parameters.get("logGroupIdentifier")
    if not name:
        raise ValidationError("Either logGroupName or logGroupIdentifier must be given")
    name = str(name).partition(":log-group:")[2].removesuffix(":*") or str(name)
    return LogGroup(caller.account_id, name)


def _show_event(event: LogEvent) -> dict[str, Any]:
    return {"timestamp": event.timestamp, "ingestionTime": event.timestamp, "message": event.message}


def _with_token(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    return answer if token is None else {**answer, "nextToken": token}
