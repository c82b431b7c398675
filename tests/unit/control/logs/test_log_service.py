"""The CloudWatch Logs operations over a real store, and the writer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from emberbox.control.logs import writer as log_writer
from emberbox.control.logs.patterns import compile_log_pattern
from emberbox.control.logs.service import LogService
from emberbox.control.logs.writer import LogWriter
from emberbox.control.requests.paging import PageTokens
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.operations.logs import handlers
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, HostError, NotFoundError, ValidationError
from emberbox.model.records import LogGroup
from emberbox.store.database import Database
from emberbox.store.logs import DAY_MS, LogStore
from emberbox.store.schema import log_metadata
from support.waiting import wait_for_async

CALLER = Caller("000000000000", "KEY", "us-east-1", "request", "")
GROUP = "/aws/lambda-microvms/image"


@dataclass
class Operations:
    """The service behind AWS's names."""

    get_events: Handler
    filter_events: Handler
    describe_groups: Handler
    describe_streams: Handler
    create_group: Handler
    delete_group: Handler
    delete_stream: Handler
    put_retention: Handler
    delete_retention: Handler


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    database = Database(f"sqlite:///{tmp_path}/logs.db", log_metadata, durable=False)
    yield LogStore(database)
    database.close()


@pytest.fixture
def service(store: LogStore, tmp_path: Path) -> Operations:
    store.append(LogGroup(CALLER.account_id, GROUP), "build", [(number, f"line {number}") for number in range(5)])
    store.append(LogGroup(CALLER.account_id, GROUP), "vm", [(100, "hello"), (101, "world")])
    found = handlers(LogService(store, PageTokens(tmp_path / "key")), "us-east-1")
    return Operations(
        get_events=found["GetLogEvents"],
        filter_events=found["FilterLogEvents"],
        describe_groups=found["DescribeLogGroups"],
        describe_streams=found["DescribeLogStreams"],
        create_group=found["CreateLogGroup"],
        delete_group=found["DeleteLogGroup"],
        delete_stream=found["DeleteLogStream"],
        put_retention=found["PutRetentionPolicy"],
        delete_retention=found["DeleteRetentionPolicy"],
    )


def texts(answer: Any) -> list[str]:
    return [event["message"] for event in answer["events"]]


async def test_events_of_a_stream_are_read_on_from_the_token(service: Operations, store: LogStore) -> None:
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


async def test_a_group_is_filtered_page_by_page(service: Operations) -> None:
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
async def test_filters_narrow(service: Operations, narrow: dict[str, Any], found: list[str]) -> None:
    assert texts(await service.filter_events(CALLER, {"logGroupName": GROUP, **narrow})) == found


async def test_event_ids_are_unique_and_name_their_stream(service: Operations) -> None:
    events = (await service.filter_events(CALLER, {"logGroupName": GROUP}))["events"]
    assert len({event["eventId"] for event in events}) == 7
    assert {event["logStreamName"] for event in events} == {"build", "vm"}


async def test_groups_and_streams_are_described(service: Operations) -> None:
    (group,) = (await service.describe_groups(CALLER, {"logGroupNamePrefix": "/aws"}))["logGroups"]
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    assert (group["arn"], group["logGroupArn"]) == (f"{arn}:*", arn)
    by_time = {"logGroupName": GROUP, "orderBy": "LastEventTime", "descending": True}
    streams = (await service.describe_streams(CALLER, by_time))["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["vm", "build"]
    page = await service.describe_streams(CALLER, {"logGroupName": GROUP, "limit": 1})
    assert len(page["logStreams"]) == 1
    rest = await service.describe_streams(CALLER, {"logGroupName": GROUP, "limit": 1, "nextToken": page["nextToken"]})
    assert [stream["logStreamName"] for stream in rest["logStreams"]] == ["vm"]


async def test_a_group_may_be_named_by_its_arn(service: Operations) -> None:
    for suffix in ("", ":*"):
        arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}{suffix}"
        assert len(texts(await service.filter_events(CALLER, {"logGroupIdentifier": arn}))) == 7


async def test_an_unknown_group_is_not_found(service: Operations) -> None:
    for operation in (service.filter_events, service.get_events, service.describe_streams):
        with pytest.raises(NotFoundError, match="The specified log group does not exist"):
            await operation(CALLER, {"logGroupName": f"{GROUP}x", "logStreamName": "build"})
    with pytest.raises(ValidationError):
        await service.filter_events(CALLER, {})


async def test_the_writer_stores_what_it_gets_in_order(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.start()
    for number in range(10):
        writer.stream(LogGroup("1", "g"), "s").write(str(number))
    await writer.close()
    events = store.events(LogGroup("1", "g"), None, 0, 100)
    assert [event.message for event in events] == [str(number) for number in range(10)]


async def test_the_writer_stores_without_being_closed(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.start()
    writer.stream(LogGroup("1", "g"), "s").write("x")
    async with asyncio.timeout(60):
        while not store.events(LogGroup("1", "g"), None, 0, 1):  # noqa: ASYNC110 - it writes in its own time
            await asyncio.sleep(0.01)
    await writer.close()


async def test_no_event_is_empty(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.stream(LogGroup("1", "g"), "s").write("")
    await writer.close()
    assert all(event.message for event in store.events(LogGroup("1", "g"), None, 0, 10))
    assert len(store.events(LogGroup("1", "g"), None, 0, 10)) == 1


class FullStore:
    """A log that cannot be written until it can."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self.is_full = True

    def append(self, *event: Any) -> None:
        if self.is_full:
            raise HostError("the database cannot be used: database or disk is full")
        self._store.append(*event)

    def trim(self, *stream: Any) -> None:
        self._store.trim(*stream)

    def forget_beyond(self, max_bytes: int) -> int:
        return self._store.forget_beyond(max_bytes)


async def test_who_brings_too_many_lines_waits_and_all_are_kept(store: LogStore) -> None:
    writer = LogWriter(store)
    writer.start()
    stream = writer.stream(LogGroup("1", "g"), "s")
    for start in range(0, 30_000, 500):
        await stream.wait_for_room()
        stream.write_all([str(number) for number in range(start, start + 500)])
        assert sum(len(pending.lines) for pending in writer._pending.values()) <= 5500
    await writer.close()
    stored = [event.message for event in store.events(LogGroup("1", "g"), None, 0, 50_000)]
    assert stored == [str(number) for number in range(30_000)]


async def test_a_log_that_is_stuck_holds_up_nobody_for_good(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "PENDING_LINES_MAX", 10)
    monkeypatch.setattr(log_writer, "STUCK_AFTER_S", 0.3)
    full = FullStore(store)
    writer = LogWriter(cast("LogStore", full))
    writer.start()
    stream = writer.stream(LogGroup("1", "g"), "s")
    for number in range(100):
        await stream.wait_for_room()
        stream.write(str(number))
        assert sum(len(pending.lines) for pending in writer._pending.values()) <= 20
    full.is_full = False
    await wait_for_async("it is stored", lambda: not writer._pending)
    await writer.close()
    told, *lines = [event.message for event in store.events(LogGroup("1", "g"), None, 0, 100)]
    assert lines == [str(number) for number in range(100 - len(lines), 100)]
    assert told.startswith(f"[{100 - len(lines)} lines were dropped here")


async def test_a_log_that_can_be_written_again_in_time_lacks_nothing(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "PENDING_LINES_MAX", 10)
    full = FullStore(store)
    writer = LogWriter(cast("LogStore", full))
    writer.start()
    stream = writer.stream(LogGroup("1", "g"), "s")
    stream.write_all([str(number) for number in range(10)])
    waiting = asyncio.create_task(stream.wait_for_room())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    full.is_full = False
    await waiting
    stream.write("10")
    await writer.close()
    assert [event.message for event in store.events(LogGroup("1", "g"), None, 0, 100)] == [str(n) for n in range(11)]


async def test_a_writer_remembers_only_so_many_streams(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_COUNTED_STREAMS", 5)
    writer = LogWriter(store)
    for number in range(20):
        writer.stream(LogGroup("1", "g"), str(number)).write("x")
    await writer.close()
    assert len(writer._written) == 5
    assert not writer._pending


async def test_a_stream_is_read_backwards_from_its_end(service: Operations) -> None:
    asked = {"logGroupName": GROUP, "logStreamName": "build", "limit": 2}
    newest = await service.get_events(CALLER, asked)
    assert texts(newest) == ["line 3", "line 4"]
    before = await service.get_events(CALLER, {**asked, "nextToken": newest["nextBackwardToken"]})
    assert texts(before) == ["line 1", "line 2"]
    first = await service.get_events(CALLER, {**asked, "nextToken": before["nextBackwardToken"]})
    assert texts(first) == ["line 0"]
    end = await service.get_events(CALLER, {**asked, "nextToken": first["nextBackwardToken"]})
    assert (texts(end), end["nextBackwardToken"]) == ([], first["nextBackwardToken"])
    turned = await service.get_events(CALLER, {**asked, "nextToken": end["nextForwardToken"]})
    assert texts(turned) == ["line 0", "line 1"]
    with pytest.raises(NotFoundError, match="The specified log stream does not exist"):
        await service.get_events(CALLER, {**asked, "logStreamName": "missing"})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["ERROR disk full", "WARN disk slow", "all well"]),
        ("disk", ["ERROR disk full", "WARN disk slow"]),
        ("disk full", ["ERROR disk full"]),
        ('"disk slow"', ["WARN disk slow"]),
        ('"slow disk"', []),
        ("disk -WARN", ["ERROR disk full"]),
        ('-"disk full"', ["WARN disk slow", "all well"]),
        ("?ERROR ?well", ["ERROR disk full", "all well"]),
        ("error", []),
    ],
)
def test_patterns_are_terms_phrases_exclusions_and_alternatives(pattern: str, found: list[str]) -> None:
    matches = compile_log_pattern(pattern)
    assert [text for text in ("ERROR disk full", "WARN disk slow", "all well") if matches(text)] == found


@pytest.mark.parametrize("pattern", ["{ $.x }", "[a, b]", "%[0-9]+%", 'one "two', '"'])
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"filter pattern"):
        compile_log_pattern(pattern)


async def test_groups_are_made_kept_and_deleted(service: Operations) -> None:
    mine = {"logGroupName": "mine"}
    assert await service.create_group(CALLER, mine) == {}
    for taken in ("mine", GROUP):
        with pytest.raises(AlreadyExistsError):
            await service.create_group(CALLER, {"logGroupName": taken})
    await service.put_retention(CALLER, {**mine, "retentionInDays": 7})
    await service.put_retention(CALLER, {"logGroupName": GROUP, "retentionInDays": 3})
    shown = {row["logGroupName"]: row for row in (await service.describe_groups(CALLER, {}))["logGroups"]}
    assert (shown["mine"]["retentionInDays"], shown[GROUP]["retentionInDays"]) == (7, 3)
    await service.delete_retention(CALLER, mine)
    with pytest.raises(ValidationError, match="Invalid retention value 2"):
        await service.put_retention(CALLER, {**mine, "retentionInDays": 2})
    await service.delete_stream(CALLER, {"logGroupName": GROUP, "logStreamName": "vm"})
    streams = (await service.describe_streams(CALLER, {"logGroupName": GROUP}))["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["build"]
    for name in ("mine", GROUP):
        await service.delete_group(CALLER, {"logGroupName": name})
        with pytest.raises(NotFoundError):
            await service.delete_group(CALLER, {"logGroupName": name})
    assert (await service.describe_groups(CALLER, {}))["logGroups"] == []


def test_old_events_go_by_their_groups_retention_or_the_default(store: LogStore) -> None:
    short, plain = LogGroup(CALLER.account_id, "short"), LogGroup(CALLER.account_id, "plain")
    now = 100 * DAY_MS
    for group in (short, plain):
        store.append(group, "s", [(now - days * DAY_MS - 1, str(days)) for days in (40, 10, 1)])
    store.make_group(short, now)
    store.set_retention(short, 3)
    assert store.forget_old(now, 30) == 3
    assert [event.message for event in store.events(short, None, 0, 9)] == ["1"]
    assert [event.message for event in store.events(plain, None, 0, 9)] == ["10", "1"]


def test_the_oldest_events_go_when_all_take_too_much(store: LogStore) -> None:
    group = LogGroup(CALLER.account_id, "many")
    for start in range(0, 60_000, 5_000):
        store.append(group, "s", [(number, f"{number} {'x' * 100}") for number in range(start, start + 5_000)])
    full = store.stored_bytes()
    removed = store.forget_beyond(full // 2)
    assert store.stored_bytes() <= full // 2
    assert 0 < removed < 60_000
    assert store.page(group, None, 0, 1, newest=True)[0][0].message.startswith("59999 ")


async def test_a_guest_that_prints_without_end_fills_no_disk(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_TRIM_EVERY_BYTES", 1 << 20)
    writer, group = LogWriter(store, max_bytes=4 << 20), LogGroup(CALLER.account_id, "loud")
    writer.start()
    stream = writer.stream(group, "s")
    for _ in range(64):
        await stream.wait_for_room()
        stream.write("x" * (1 << 18))
    await writer.close()
    assert store.stored_bytes() < 8 << 20
    assert store.events(group, None, 0, 1)


async def test_a_page_of_long_events_is_no_larger_than_a_page(store: LogStore, service: Operations) -> None:
    """1 MB, as with CloudWatch Logs; an event that is as long comes alone."""
    group = LogGroup(CALLER.account_id, "long")
    store.append(group, "s", [(number, str(number % 10) * 400_000) for number in range(9)] + [(9, "9" * 1_048_550)])
    asked = {"logGroupName": "long", "logStreamName": "s", "startFromHead": True}
    seen: list[str] = []
    while True:
        page = await service.get_events(CALLER, asked)
        if not page["events"]:
            break
        assert sum(len(event["message"]) + 26 for event in page["events"]) <= 1 << 20
        seen += texts(page)
        asked["nextToken"] = page["nextForwardToken"]
    assert [text[0] for text in seen] == list("0123456789")
    newest = await service.get_events(CALLER, {"logGroupName": "long", "logStreamName": "s"})
    assert [text[0] for text in texts(newest)] == ["9"]
    before = await service.get_events(CALLER, {**asked, "nextToken": newest["nextBackwardToken"]})
    assert [text[0] for text in texts(before)] == ["7", "8"]
    found: list[str] = []
    filtering: dict[str, Any] = {"logGroupName": "long"}
    while True:
        page = await service.filter_events(CALLER, filtering)
        assert sum(len(event["message"]) + 26 for event in page["events"]) <= 1 << 20
        found += texts(page)
        if "nextToken" not in page:
            break
        filtering["nextToken"] = page["nextToken"]
    assert found == seen
