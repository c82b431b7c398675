"""CloudWatch Logs on the wire: every member of every answer, how groups are named, errors and their order."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.model.records import LogGroup
from support.api_world import World
from support.wire import KEY, REGION

LOGS = "logs"
GROUP = "/aws/lambda-microvms/web"
ARN = f"arn:aws:logs:{REGION}:{KEY.account_id}:log-group"
NO_GROUP = (400, "ResourceNotFoundException", "The specified log group does not exist.")
NO_STREAM = (400, "ResourceNotFoundException", "The specified log stream does not exist.")


@pytest.fixture
def world(world: World) -> World:
    lines = [(number, f"line {number}") for number in range(5)]
    world.plane.logs.append(LogGroup(KEY.account_id, GROUP), "build", lines)
    world.plane.logs.append(LogGroup(KEY.account_id, GROUP), "vm", [(100, "hello"), (101, "world")])
    return world


async def test_groups_are_told_with_every_member(world: World) -> None:
    assert await world.ok(LOGS, "CreateLogGroup", logGroupName="mine") == {}
    await world.ok(LOGS, "PutRetentionPolicy", logGroupName="mine", retentionInDays=7)
    answer = await world.ok(LOGS, "DescribeLogGroups")
    assert list(answer) == ["logGroups"]
    told, made = answer["logGroups"]
    whole = {"metricFilterCount": 0, "logGroupClass": "STANDARD"}
    names = {"logGroupName": GROUP, "logGroupArn": f"{ARN}:{GROUP}", "arn": f"{ARN}:{GROUP}:*"}
    assert told == {**names, **whole, "creationTime": 0, "storedBytes": 5 * len("line 0") + 2 * len("hello") + 7 * 26}
    assert made.pop("creationTime") > 1_000_000
    names = {"logGroupName": "mine", "logGroupArn": f"{ARN}:mine", "arn": f"{ARN}:mine:*"}
    assert made == {**names, **whole, "retentionInDays": 7, "storedBytes": 0}
    for narrow in ({"logGroupNamePrefix": "mi"}, {"logGroupNamePattern": "INE"}):
        assert (await world.ok(LOGS, "DescribeLogGroups", **narrow))["logGroups"][0]["logGroupName"] == "mine"


async def test_streams_are_told_with_every_member(world: World) -> None:
    answer = await world.ok(LOGS, "DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix="v")
    times = {"creationTime": 100, "firstEventTimestamp": 100, "lastEventTimestamp": 101, "lastIngestionTime": 101}
    assert answer == {"logStreams": [{"logStreamName": "vm", "arn": f"{ARN}:{GROUP}:log-stream:vm", **times}]}


async def test_lists_of_names_are_paged(world: World) -> None:
    first = await world.ok(LOGS, "DescribeLogStreams", logGroupName=GROUP, limit=1)
    assert [stream["logStreamName"] for stream in first["logStreams"]] == ["build"]
    rest = await world.ok(LOGS, "DescribeLogStreams", logGroupName=GROUP, limit=1, nextToken=first["nextToken"])
    assert [stream["logStreamName"] for stream in rest["logStreams"]] == ["vm"]
    assert "nextToken" not in rest
    refused = await world.refused(LOGS, "DescribeLogGroups", nextToken=first["nextToken"])
    assert refused[0] == 400


async def test_events_are_told_with_every_member(world: World) -> None:
    stream = {"logGroupName": GROUP, "logStreamName": "vm"}
    answer = await world.ok(LOGS, "GetLogEvents", **stream, limit=1)
    assert answer["events"] == [{"timestamp": 101, "ingestionTime": 101, "message": "world"}]
    assert set(answer) == {"events", "nextForwardToken", "nextBackwardToken"}
    older = await world.ok(LOGS, "GetLogEvents", **stream, nextToken=answer["nextBackwardToken"])
    assert [event["message"] for event in older["events"]] == ["hello"]
    found = await world.ok(LOGS, "FilterLogEvents", logGroupName=GROUP, filterPattern="hello")
    event = {"timestamp": 100, "ingestionTime": 100, "message": "hello", "logStreamName": "vm", "eventId": f"{6:056d}"}
    assert found == {"events": [event], "searchedLogStreams": []}
    page = await world.ok(LOGS, "FilterLogEvents", logGroupName=GROUP, limit=6)
    last = await world.ok(LOGS, "FilterLogEvents", logGroupName=GROUP, nextToken=page["nextToken"])
    assert [event["message"] for event in last["events"]] == ["world"]


@pytest.mark.parametrize("name", [GROUP, f"{ARN}:{GROUP}"])
async def test_a_group_may_be_named_by_its_arn(world: World, name: str) -> None:
    answer = await world.ok(LOGS, "FilterLogEvents", logGroupIdentifier=name, logStreamNames=["vm"])
    assert [event["message"] for event in answer["events"]] == ["hello", "world"]


INVALID = (400, "InvalidParameterException")


@pytest.mark.parametrize(
    ("operation", "parameters", "refused"),
    [
        ("DescribeLogStreams", {}, (*INVALID, "Either logGroupName or logGroupIdentifier must be given")),
        ("GetLogEvents", {"logGroupName": "no", "logStreamName": "no", "nextToken": "x"}, NO_GROUP),
        ("GetLogEvents", {"logGroupName": GROUP, "logStreamName": "no", "nextToken": "x"}, NO_STREAM),
        ("FilterLogEvents", {"logGroupName": "no", "filterPattern": "{}"}, NO_GROUP),
        (
            "FilterLogEvents",
            {"logGroupName": GROUP, "logStreamNames": ["a"], "logStreamNamePrefix": "a", "nextToken": "x"},
            (*INVALID, "logStreamNames and logStreamNamePrefix cannot be given together"),
        ),
        (
            "FilterLogEvents",
            {"logGroupName": GROUP, "nextToken": "x"},
            (*INVALID, "Invalid nextToken: use the one that the page before gave, with the same operation"),
        ),
        ("DescribeLogStreams", {"logGroupName": "no", "nextToken": "x"}, NO_GROUP),
        ("DeleteLogGroup", {"logGroupName": "no"}, NO_GROUP),
        ("DeleteLogStream", {"logGroupName": GROUP, "logStreamName": "no"}, NO_STREAM),
        ("DeleteRetentionPolicy", {"logGroupName": "no"}, NO_GROUP),
        (
            "CreateLogGroup",
            {"logGroupName": GROUP, "tags": {"a": "b"}},
            (*INVALID, "tags is not supported: log groups here have neither keys, tags nor protection"),
        ),
        (
            "CreateLogGroup",
            {"logGroupName": GROUP},
            (400, "ResourceAlreadyExistsException", "The specified log group already exists"),
        ),
    ],
)
async def test_what_is_refused(
    world: World, operation: str, parameters: dict[str, Any], refused: tuple[int, str, str]
) -> None:
    assert await world.refused(LOGS, operation, **parameters) == refused


async def test_a_retention_that_is_none_is_refused_before_the_group_is_looked_for(world: World) -> None:
    refused = await world.refused(LOGS, "PutRetentionPolicy", logGroupName="no", retentionInDays=2)
    assert refused[:2] == INVALID
    assert refused[2].startswith("Invalid retention value 2. Valid values are: [1, 3, 5,")


async def test_a_group_outlives_its_events_until_it_is_deleted(world: World) -> None:
    for stream in ("build", "vm"):
        await world.ok(LOGS, "DeleteLogStream", logGroupName=GROUP, logStreamName=stream)
    (group,) = (await world.ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert (group["logGroupName"], group["storedBytes"], group["creationTime"]) == (GROUP, 0, 0)
    await world.ok(LOGS, "DeleteLogGroup", logGroupName=GROUP)
    assert (await world.ok(LOGS, "DescribeLogGroups"))["logGroups"] == []


async def test_a_stream_and_a_group_are_deleted(world: World) -> None:
    for operation, more in (("DeleteLogStream", {"logStreamName": "vm"}), ("DeleteLogGroup", {})):
        answer = await world.send(LOGS, operation, logGroupName=GROUP, **more)
        assert (answer.status, answer.body) == (200, b"")
    assert (await world.ok(LOGS, "DescribeLogGroups"))["logGroups"] == []
