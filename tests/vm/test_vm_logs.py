"""What an application prints: kept as it is, however much comes at once; it waits rather than that its log is cut."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from support.aws import Clients
from support.guests import Microvm
from support.images import Image
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]

OUT, ERR = "/proc/1/fd/1", "/proc/1/fd/2"


class Log:
    """Reads one log group, all of it."""

    def __init__(self, clients: Clients, group: str) -> None:
        self._clients = clients
        self._group = group

    def lines(self) -> list[str]:
        """Return what there is so far, the oldest first."""
        try:
            pages = self._clients.logs.get_paginator("filter_log_events").paginate(logGroupName=self._group)
            return [event["message"] for page in pages for event in page["events"]]
        except self._clients.logs.exceptions.ResourceNotFoundException:
            return []

    def wait_for(self, line: str) -> list[str]:
        """Return the lines when this one is there."""
        wait_for(f"the line {line!r}", lambda: line in self.lines(), 120)
        return self.lines()


@pytest.fixture
def loud(launch: Launch, probe_image: Image, clients: Clients) -> tuple[Microvm, Log]:
    """A microVM with a log group of its own."""
    group = f"/loud/{uuid.uuid4()}"
    role = "arn:aws:iam::000000000000:role/loud"
    microvm = launch(probe_image, executionRoleArn=role, logging={"cloudWatch": {"logGroup": group}})
    return microvm, Log(clients, group)


def test_a_burst_a_long_line_and_bytes_that_are_no_text_are_kept(loud: tuple[Microvm, Log]) -> None:
    microvm, log = loud
    microvm.shell(f"seq -f 'flood %g {'x' * 80}' 20000 >{OUT}; echo flood-end >{OUT}")
    microvm.shell(f"head -c 1500000 /dev/zero | tr '\\0' A >{OUT}; echo >{OUT}")
    microvm.shell(f"printf 'bad\\377\\376 nul \\000 end\\n\\n\\nlast of out\\n' >{OUT}; echo 'last of err' >{ERR}")
    lines = log.wait_for("last of err")
    flood = [line.split()[1] for line in lines if line.startswith("flood ")]
    assert flood == [str(number) for number in range(1, 20_001)]
    assert "flood-end" in lines
    pieces = [line for line in lines if line.startswith("AAA")]
    assert "".join(pieces) == "A" * 1_500_000
    assert max(map(len, pieces)) <= (1 << 20) - 26
    assert "bad\ufffd\ufffd nul \0 end" in lines
    assert lines.count(" ") == 2
    assert "last of out" in lines
    assert not [line for line in lines if "dropped" in line]


def test_an_application_that_never_stops_printing_is_suspended_and_resumed_and_nobody_else_waits(
    loud: tuple[Microvm, Log], launch: Launch, probe_image: Image
) -> None:
    """Its empty lines are the most that there can be: its pipe is always full, and the log always behind."""
    microvm, log = loud
    other = launch(probe_image)
    microvm.shell(f"yes '' >{ERR} 2>/dev/null &")
    for number in range(2):
        assert other.get()["count"]
        microvm.suspend()
        assert microvm.state() == "SUSPENDED"
        microvm.resume()
        assert "yes" in microvm.shell(f"echo resumed {number} >{OUT}; cat /proc/[0-9]*/comm")
    microvm.shell("for p in /proc/[0-9]*; do [ $(cat $p/comm) = yes ] && kill ${p#/proc/}; done")
    microvm.shell(f"echo ended >{OUT}")
    lines = log.wait_for("ended")
    assert [line for line in lines if line.startswith("resumed")] == ["resumed 0", "resumed 1"]
    assert lines.count(" ") > 100_000
    assert not [line for line in lines if "dropped" in line]
