"""Logs, events and what the machine has, over a server that is made of a few lines."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from typing import Any

import httpx2
import pytest
from sdk_world import Server, members, microvm, refused

import emberbox_sdk
from emberbox_sdk import AsyncLogs, Logs, Sandbox
from emberbox_sdk._sync import platform

NOON = 1_700_000_000_000
GROUP = "/aws/lambda-microvms/hello"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "sleep", lambda seconds: None)


class LogsServer(Server):
    """Answers FilterLogEvents from what is written, two lines to a page."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.on("POST", "/", self._answer)

    def write(self, event_id: str, timestamp: int, message: str, stream: str = "s") -> None:
        self.written.append({"eventId": event_id, "timestamp": timestamp, "message": message, "logStreamName": stream})

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content)
        if request.headers["x-amz-target"].endswith("DescribeLogGroups"):
            return members({"logGroups": [{"logGroupName": f"{GROUP}-2"}, {"logGroupName": GROUP}]})
        self.requests.append(asked)
        if not self.written:
            return refused("ResourceNotFoundException", 400)
        wanted = [
            event for event in self.written
            if event["timestamp"] >= asked["startTime"]
            and event["logStreamName"] in asked.get("logStreamNames", [event["logStreamName"]])
        ]  # fmt: skip
        first = int(asked.get("nextToken", 0))
        more = {"nextToken": str(first + 2)} if first + 2 < len(wanted) else {}
        return members({"events": wanted[first : first + 2], **more})


def test_each_line_comes_once_and_late_ones_are_not_lost() -> None:
    server = LogsServer()
    logs = Logs(server.client(), GROUP)
    assert logs.poll() == []  # the group is not there yet
    server.write("e1", NOON, "one\n")
    server.write("e2", NOON + 9000, "two")
    assert [line.message for line in logs.poll()] == ["one", "two"]
    server.write("e3", NOON + 8000, "late")
    server.write("e4", NOON + 9000, "of the same moment")
    assert [line.message for line in logs.poll()] == ["late", "of the same moment"]
    assert logs.poll() == []
    assert server.requests[-1]["startTime"] == NOON + 4000  # old lines are not read again and again


def test_lines_are_followed_over_pages() -> None:
    server = LogsServer()
    for number in range(5):
        server.write(f"e{number}", NOON + number, str(number))
    assert [line.message for line in islice(Logs(server.client(), GROUP).follow(), 5)] == ["0", "1", "2", "3", "4"]


async def test_the_other_half_does_the_same_with_lines_of_one_stream() -> None:
    server = LogsServer()
    server.write("e1", NOON, "of one", "one")
    server.write("e2", NOON, "of two", "two")
    logs = AsyncLogs(server.async_client(), GROUP, ["two"])
    assert [(line.message, line.timestamp_ms) for line in await logs.poll()] == [("of two", NOON)]
    assert await logs.exists()
    assert not await AsyncLogs(server.async_client(), "/aws/lambda-microvms/hell").exists()


def test_what_a_sandbox_writes_is_told_from_what_others_do() -> None:
    server = LogsServer()
    server.on("GET", "/microvms/mvm-1", members(microvm() | {"startedAt": NOON / 1000}))
    server.write("e0", NOON - 1, "of an earlier one", "2023/[1.0]mvm-1")
    server.write("e1", NOON, "mine", "2023/[1.0]mvm-1")
    server.write("e2", NOON, "of another", "2023/[1.0]mvm-2")
    found = Sandbox.connect("mvm-1", client=server.client()).history.logs().poll()
    assert [line.message for line in found] == ["mine"]
    assert server.requests[-1]["logGroupName"] == GROUP


def event(number: int) -> dict[str, Any]:
    return {
        "eventId": number, "time": 1.5, "microvmId": "mvm-1", "state": "RUNNING", "actor": "API",
        "reason": "RunMicrovm", "durationInMilliseconds": 12,
    }  # fmt: skip


def test_events_without_follow_are_one_page() -> None:
    server = Server()
    server.on("GET", "/events", members({"items": [event(1), event(2) | {"fromState": "PENDING"}]}))
    found = list(Sandbox.connect("mvm-1", check=False, client=server.client()).history.events())
    assert [(one.id, one.before, one.state) for one in found] == [(1, "", "RUNNING"), (2, "PENDING", "RUNNING")]
    assert dict(server.asked[-1].url.params) == {"microvmIdentifier": "mvm-1", "maxResults": "50"}
    assert len(server.asked) == 1


def test_followed_events_go_on_from_the_last_and_come_once() -> None:
    server = Server()
    pages = [[4, 5], [], [6, 7], [8]]
    server.on("GET", "/events", *(members({"items": [event(number) for number in page]}) for page in pages))
    found = islice(server.client().events(limit=2, follow=True), 5)
    assert [one.id for one in found] == [4, 5, 6, 7, 8]
    assert [request.url.params.get("afterEventId") for request in server.asked] == [None, "5", "5", "7"]


def test_followed_events_begin_with_the_first_where_there_was_none() -> None:
    server = Server()
    server.on("GET", "/events", members({"items": []}), members({"items": [event(1)]}))
    assert next(server.client().events(follow=True)).id == 1
    assert server.asked[-1].url.params["afterEventId"] == "0"


def test_the_machine_is_described() -> None:
    used = {"memoryInBytes": 1, "changedMemoryInBytes": 2, "diskInBytes": 3, "cpuSeconds": 0.5}
    server = Server()
    answer = {
        "cpuCount": 2, "loadAverage": 0.5, "memoryTotalInBytes": 10, "memoryAvailableInBytes": 5,
        "diskFreeInBytes": 7, "diskReserveInBytes": 1,
        "microvms": [{"microvmId": "mvm-1", **used}],
        "pooledMicrovms": [{"imageArn": "arn:aws:lambda:r:1:microvm-image:hello", "imageVersion": "1.0", **used}],
    }  # fmt: skip
    server.on("GET", "/host", members(answer))
    host = server.client().host()
    assert (host.cpus, host.memory_available_bytes, host.disk_free_bytes) == (2, 5, 7)
    assert [(one.sandbox_id, one.disk_bytes, one.cpu_s) for one in host.sandboxes] == [("mvm-1", 3, 0.5)]
    assert [(one.sandbox_id, one.image, one.version) for one in host.prepared] == [("", "hello", "1.0")]


# --- the package


def test_every_name_of_the_package_can_be_taken() -> None:
    assert [name for name in emberbox_sdk.__all__ if getattr(emberbox_sdk, name).__name__ != name] == []
    assert set(emberbox_sdk.__all__) <= set(dir(emberbox_sdk))
    with pytest.raises(AttributeError, match="has no attribute 'Sandbocks'"):
        emberbox_sdk.Sandbocks  # noqa: B018


def test_who_takes_one_half_does_not_load_the_other() -> None:
    script = (
        "import sys\nfrom emberbox_sdk import Sandbox\n"
        "print([name for name in sys.modules if 'emberbox_sdk._async' in name or name.startswith('websockets.async')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
