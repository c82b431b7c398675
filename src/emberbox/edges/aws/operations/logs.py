"""The CloudWatch Logs operations that `aws logs` and boto3 need to read build logs and applications' output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from emberbox.control.logs.commands import FilterEvents, ListGroups, ListStreams, ReadEvents
from emberbox.control.logs.service import PAGE_EVENTS, PAGE_NAMES, LogService
from emberbox.control.requests.paging import Page, PageRequest
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError
from emberbox.model.logs import GroupSummary, StreamSummary
from emberbox.model.records import LogEvent

_NOT_HERE: Final = ("kmsKeyId", "tags", "deletionProtectionEnabled")

T = TypeVar("T")


def handlers(logs: LogService, region: str) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        logs: does what is asked.
        region: the region played, for ARNs.
    """
    return _group_handlers(logs, region) | _stream_handlers(logs, region)


def _group_handlers(logs: LogService, region: str) -> dict[str, Handler]:
    async def create(caller: Caller, parameters: Parameters) -> Members:
        logs.create_group(caller, read_new_group(parameters))
        return {}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        await logs.delete_group(caller, read_group(parameters))
        return {}

    async def put_retention(caller: Caller, parameters: Parameters) -> Members:
        logs.set_retention(caller, read_group(parameters), parameters["retentionInDays"])
        return {}

    async def delete_retention(caller: Caller, parameters: Parameters) -> Members:
        logs.set_retention(caller, read_group(parameters), None)
        return {}

    async def describe(caller: Caller, parameters: Parameters) -> Members:
        page = await logs.list_groups(caller, read_list_groups(parameters))
        sizes = await logs.measure_groups(caller, [group.name for group in page.items])

        def show(group: GroupSummary) -> Members:
            return show_group(group, _arn(region, caller, group.name), sizes.get(group.name, 0))

        return _show_page("logGroups", page, show)

    return {
        "CreateLogGroup": create,
        "DeleteLogGroup": delete,
        "PutRetentionPolicy": put_retention,
        "DeleteRetentionPolicy": delete_retention,
        "DescribeLogGroups": describe,
    }


def _stream_handlers(logs: LogService, region: str) -> dict[str, Handler]:
    async def delete(caller: Caller, parameters: Parameters) -> Members:
        await logs.delete_stream(caller, read_group(parameters), parameters["logStreamName"])
        return {}

    async def describe(caller: Caller, parameters: Parameters) -> Members:
        page = await logs.list_streams(caller, read_list_streams(parameters))
        return _show_page("logStreams", page, lambda stream: show_stream(stream, _arn(region, caller, stream.group)))

    async def get_events(caller: Caller, parameters: Parameters) -> Members:
        page = await logs.read_events(caller, read_get_events(parameters))
        return {
            "events": [show_event(event) for event in page.events],
            "nextForwardToken": page.forward_token,
            "nextBackwardToken": page.backward_token,
        }

    async def filter_events(caller: Caller, parameters: Parameters) -> Members:
        page = await logs.filter_events(caller, read_filter_events(parameters))
        return {**_show_page("events", page, show_found_event), "searchedLogStreams": []}

    return {
        "DeleteLogStream": delete,
        "DescribeLogStreams": describe,
        "GetLogEvents": get_events,
        "FilterLogEvents": filter_events,
    }


def read_group(parameters: Parameters) -> str:
    """Return the name of the group that is given by name or by ARN.

    Raises:
        ValidationError: neither is given.
    """
    name: str | None = parameters.get("logGroupName") or parameters.get("logGroupIdentifier")
    if not name:
        raise ValidationError("Either logGroupName or logGroupIdentifier must be given")
    return name.partition(":log-group:")[2].removesuffix(":*") or name


def read_new_group(parameters: Parameters) -> str:
    """Return the name of the group that is to be made.

    Raises:
        ValidationError: it is asked to be what groups here cannot be.
    """
    for name in _NOT_HERE:
        if parameters.get(name):
            raise ValidationError(f"{name} is not supported: log groups here have neither keys, tags nor protection")
    group: str = parameters["logGroupName"]
    return group


def read_list_groups(parameters: Parameters) -> ListGroups:
    """Return what DescribeLogGroups asks for."""
    return ListGroups(
        prefix=parameters.get("logGroupNamePrefix", ""),
        part=parameters.get("logGroupNamePattern", ""),
        page=_read_page(parameters, PAGE_NAMES),
    )


def read_list_streams(parameters: Parameters) -> ListStreams:
    """Return what DescribeLogStreams asks for.

    Raises:
        ValidationError: see `read_group`.
    """
    return ListStreams(
        group=read_group(parameters),
        prefix=parameters.get("logStreamNamePrefix", ""),
        by_last_event=parameters.get("orderBy") == "LastEventTime",
        descending=parameters.get("descending", False),
        page=_read_page(parameters, PAGE_NAMES),
    )


def read_get_events(parameters: Parameters) -> ReadEvents:
    """Return what GetLogEvents asks for.

    Raises:
        ValidationError: see `read_group`.
    """
    return ReadEvents(
        group=read_group(parameters),
        stream=parameters["logStreamName"],
        start_ms=parameters.get("startTime"),
        end_ms=parameters.get("endTime"),
        from_head=parameters.get("startFromHead", False),
        page=_read_page(parameters, PAGE_EVENTS),
    )


def read_filter_events(parameters: Parameters) -> FilterEvents:
    """Return what FilterLogEvents asks for.

    Raises:
        ValidationError: see `read_group`.
    """
    return FilterEvents(
        group=read_group(parameters),
        pattern=parameters.get("filterPattern", ""),
        streams=tuple(parameters["logStreamNames"]) if "logStreamNames" in parameters else None,
        stream_prefix=parameters.get("logStreamNamePrefix"),
        start_ms=parameters.get("startTime"),
        end_ms=parameters.get("endTime"),
        page=_read_page(parameters, PAGE_EVENTS),
    )


def _read_page(parameters: Parameters, default: int) -> PageRequest:
    return PageRequest(parameters.get("limit", default), parameters.get("nextToken"))


def _show_page(name: str, page: Page[T], show: Callable[[T], Members]) -> Members:
    shown = {name: [show(item) for item in page.items]}
    return shown if page.next_token is None else {**shown, "nextToken": page.next_token}


def _arn(region: str, caller: Caller, group: str) -> str:
    return f"arn:aws:logs:{region}:{caller.account_id}:log-group:{group}"


def show_group(group: GroupSummary, arn: str, stored_bytes: int) -> Members:
    """Return a group as DescribeLogGroups has it."""
    return {
        "logGroupName": group.name,
        "logGroupArn": arn,
        "arn": f"{arn}:*",
        "creationTime": group.created,
        "retentionInDays": group.retention_days,
        "metricFilterCount": 0,
        "storedBytes": stored_bytes,
        "logGroupClass": "STANDARD",
    }


def show_stream(stream: StreamSummary, group_arn: str) -> Members:
    """Return a stream as DescribeLogStreams has it."""
    return {
        "logStreamName": stream.name,
        "arn": f"{group_arn}:log-stream:{stream.name}",
        "creationTime": stream.first,
        "firstEventTimestamp": stream.first,
        "lastEventTimestamp": stream.last,
        "lastIngestionTime": stream.last,
    }


def show_event(event: LogEvent) -> Members:
    """Return an event as GetLogEvents has it."""
    return {"timestamp": event.timestamp, "ingestionTime": event.timestamp, "message": event.message}


def show_found_event(event: LogEvent) -> Members:
    """Return an event as FilterLogEvents has it."""
    return {**show_event(event), "logStreamName": event.stream, "eventId": f"{event.id:056d}"}
