"""The CloudWatch Logs operations that `aws logs` and boto3 need to read build logs and applications' output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from emberbox.control.paging import PageTokens
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.records import LogEvent, LogGroup
from emberbox.store.logs import LogStore, StreamSummary

PAGE_EVENTS: Final = 10_000
PAGE_NAMES: Final = 50


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
            "DescribeLogGroups": self.describe_groups,
            "DescribeLogStreams": self.describe_streams,
            "GetLogEvents": self.get_events,
            "FilterLogEvents": self.filter_events,
        }

    async def describe_groups(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeLogGroups, by name."""
        prefix = parameters.get("logGroupNamePrefix", "")
        found = [
            {"logGroupName": name, "arn": self._arn(caller, name), "creationTime": first}
            for name, first in self._store.groups(caller.account_id, prefix)
        ]
        page, token = self._page("DescribeLogGroups", found, parameters)
        return _with_token({"logGroups": page}, token)

    async def describe_streams(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeLogStreams, by name or by the time of the last event."""
        group = _find_group(caller, parameters)
        streams = self._store.streams(group, parameters.get("logStreamNamePrefix", ""))
        if not streams:
            self._check_group(group)
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

    async def get_events(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetLogEvents: one stream, forward; the same forward token twice means that there is no more yet."""
        group, stream = _find_group(caller, parameters), parameters["logStreamName"]
        self._check_group(group)
        after = self._place("GetLogEvents", parameters)
        limit = min(parameters.get("limit", PAGE_EVENTS), PAGE_EVENTS)
        times = {"start_ms": parameters.get("startTime"), "end_ms": parameters.get("endTime")}
        events = self._store.events(group, [stream], after, limit, **times)
        last = events[-1].id if events else after
        first = events[0].id - 1 if events else after
        return {
            "events": [_show_event(event) for event in events],
            "nextForwardToken": self._page_tokens.seal("GetLogEvents", [last]),
            "nextBackwardToken": self._page_tokens.seal("GetLogEvents", [first]),
        }

    async def filter_events(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """FilterLogEvents: all streams of a group; the pattern is a plain text that must occur."""
        group = _find_group(caller, parameters)
        self._check_group(group)
        streams = parameters.get("logStreamNames")
        if streams is None and "logStreamNamePrefix" in parameters:
            streams = [found.name for found in self._store.streams(group, parameters["logStreamNamePrefix"])]
        limit = min(parameters.get("limit", PAGE_EVENTS), PAGE_EVENTS)
        after = self._place("FilterLogEvents", parameters)
        events = self._store.events(
            group,
            streams,
            after,
            limit + 1,
            parameters.get("startTime"),
            parameters.get("endTime"),
            _plain_pattern(parameters.get("filterPattern", "")),
        )
        page = events[:limit]
        shown = [{**_show_event(event), "logStreamName": event.stream, "eventId": f"{event.id:056d}"} for event in page]
        token = self._page_tokens.seal("FilterLogEvents", [page[-1].id]) if len(events) > limit else None
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

    def _check_group(self, group: LogGroup) -> None:
        if all(name != group.name for name, _ in self._store.groups(*group)):
            raise NotFoundError("The specified log group does not exist.")

    def _arn(self, caller: Caller, group: str) -> str:
        return f"arn:aws:logs:{self._region}:{caller.account_id}:log-group:{group}"


def _find_group(caller: Caller, parameters: dict[str, Any]) -> LogGroup:
    """Return the caller's group, given by name or by ARN.

    Raises:
        ValidationError: neither is given.
    """
    name = parameters.get("logGroupName") or parameters.get("logGroupIdentifier")
    if not name:
        raise ValidationError("Either logGroupName or logGroupIdentifier must be given")
    name = str(name).partition(":log-group:")[2].removesuffix(":*") or str(name)
    return LogGroup(caller.account_id, name)


def _plain_pattern(pattern: str) -> str:
    return pattern.strip().strip('"')


def _show_event(event: LogEvent) -> dict[str, Any]:
    return {"timestamp": event.timestamp, "ingestionTime": event.timestamp, "message": event.message}


def _with_token(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    return answer if token is None else {**answer, "nextToken": token}
