"""The CloudWatch Logs operations over a real store, and the writer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.control import log_writer
from emberbox.control.log_writer import LogWriter
from emberbox.control.logs import LogService
from emberbox.control.paging import PageTokens
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.records import LogGroup
from emberbox.store.database import Database
from emberbox.store.logs import LogStore
from emberbox.store.schema import log_metadata

CALLER = Caller("000000000000", "KEY", "us-east-1", "request", "")
GROUP = "/aws/lambda-microvms/image"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    database = Database(f"sqlite:///{tmp_path}/logs.db", log_metadata, durable=False)
    yield LogStore(database)
    database.close()


@pytest.fixture
def service(store: LogStore, tmp_path: Path) -> LogService:
    store.append(LogGroup(CALLER.account_id, GROUP), "build", [(number, f"line {number}") for number in range(5)])
    store.append(LogGroup(CALLER.account_id, GROUP), "vm", [(100, "hello"), (101, "world")])
    return LogService(store, PageTokens(tmp_path / "key"), "us-east-1")


def texts(answer: Any) -> list[str]:
    return [event["message"] for event in answer["events"]]


async def test_events_of_a_stream_are_read_on_from_the_token(service: LogService, store: LogStore) -> None:
    asked = {"logGroupName": GROUP, "logStreamName": "build", "limit": 3, "startFromHead": True}
    first = await service.get_events(CALLER, asked)
    assert texts(first) == ["line 0", "line 1", "line 2"]
    rest = await service.get_events(CALLER, {**asked, "nextToken": first["nextForwardToken"]})
    assert texts(rest) == ["line 3", "line 4"]
    end = await service.get_events(CALLER, {**asked, "nextToken": rest["nextForwardToken"]})
    assert (texts(end), end["nextForwardToken"]) == ([], rest["nextForwardToken"])
    store.append(LogGroup(CALLER.account_id, GROUP), "build", [(6, "later")])
    more = await service.get_events(CALLER, {**asked, "nextToken": end["nextForwardToken"]})
    assert texts(more) == ["later"]


async def test_a_group_is_filtered_page_by_page(service: LogService) -> None:
    seen, token = [], {}
    while True:
        page = await service.filter_events(CALLER, {"logGroupName": GROUP, "limit": 2, **token})
        seen += texts(page)
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert seen == [*[f"line {number}" for number in range(5)], "hello", "world"]


@pytest.mark.parametrize(
    ("narrow", "found"),
    [
        ({"filterPattern": '"hello"'}, ["hello"]),
        ({"filterPattern": "line 3"}, ["line 3"]),
        ({"logStreamNames": ["vm"]}, ["hello", "world"]),
        ({"logStreamNamePrefix": "v"}, ["hello", "world"]),
        ({"logStreamNamePrefix": "none"}, []),
        ({"startTime": 101}, ["world"]),
        ({"startTime": 100, "endTime": 101}, ["hello"]),
    ],
)
async def test_filters_narrow(service: LogService, narrow: dict[str, Any], found: list[str]) -> None:
    assert texts(await service.filter_events(CALLER, {"logGroupName": GROUP, **narrow})) == found


async def test_event_ids_are_unique_and_name_their_stream(service: LogService) -> None:
    events = (await service.filter_events(CALLER, {"logGroupName": GROUP}))["events"]
    assert len({event["eventId"] for event in events}) == 7
    assert {event["logStreamName"] for event in events} == {"build", "vm"}


async def test_groups_and_streams_are_described(service: LogService) -> None:
    (group,) = (await service.describe_groups(CALLER, {"logGroupNamePrefix": "/aws"}))["logGroups"]
    assert group["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    by_time = {"logGroupName": GROUP, "orderBy": "LastEventTime", "descending": True}
    streams = (await service.describe_streams(CALLER, by_time))["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["vm", "build"]
    page = await service.describe_streams(CALLER, {"logGroupName": GROUP, "limit": 1})
    assert len(page["logStreams"]) == 1
    rest = await service.describe_streams(CALLER, {"logGroupName": GROUP, "limit": 1, "nextToken": page["nextToken"]})
    assert [stream["logStreamName"] for stream in rest["logStreams"]] == ["vm"]


async def test_a_group_may_be_named_by_its_arn(service: LogService) -> None:
    for suffix in ("", ":*"):
        arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}{suffix}"
        assert len(texts(await service.filter_events(CALLER, {"logGroupIdentifier": arn}))) == 7


async def test_an_unknown_group_is_not_found(service: LogService) -> None:
    for operation in (service.filter_events, service.get_events, service.describe_streams):
        with pytest.raises(NotFoundError, match="The specified log group does not exist"):
            await operation(CALLER, {"logGroupName": f"{GROUP}x", "logStreamName": "build"})
    with pytest.raises(ValidationError):
        await service.filter_events(CALLER, {})


async def test_the_writer_stores_what_it_gets_in_order(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.start()
    for number in range(10):
        writer.write(LogGroup("1", "g"), "s", str(number))
    await writer.close()
    events = store.events(LogGroup("1", "g"), None, 0, 100)
    assert [event.message for event in events] == [str(number) for number in range(10)]


async def test_the_writer_stores_without_being_closed(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.start()
    writer.write(LogGroup("1", "g"), "s", "x")
    async with asyncio.timeout(60):
        while not store.events(LogGroup("1", "g"), None, 0, 1):  # noqa: ASYNC110 - it writes in its own time
            await asyncio.sleep(0.01)
    await writer.close()


async def test_no_event_is_empty(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.write(LogGroup("1", "g"), "s", "")
    await writer.close()
    assert all(event.message for event in store.events(LogGroup("1", "g"), None, 0, 10))
    assert len(store.events(LogGroup("1", "g"), None, 0, 10)) == 1


async def test_what_comes_too_fast_is_dropped_and_said(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "PENDING_LINES_MAX", 3)
    writer = LogWriter(store)
    for number in range(10):
        writer.write(LogGroup("1", "g"), "s", str(number))
    await writer.close()
    assert [event.message for event in store.events(LogGroup("1", "g"), None, 0, 100)] == [
        *["0", "1", "2"],
        "[7 lines came too fast and were dropped]",
    ]
