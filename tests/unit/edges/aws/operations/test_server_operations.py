"""DescribeServer and DescribeHost on the wire."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.control.microvms.runners import Runners
from emberbox.host.usage import machine_memory
from emberbox.machine.pool import Pooled
from emberbox.model.errors import VmmError
from emberbox.model.states import MicrovmState
from emberbox.model.usage import Usage
from support.api_world import World
from support.wire import REGION

EMBERBOX = "emberbox"
SHOWN = {"memoryInBytes": 3, "changedMemoryInBytes": 2, "diskInBytes": 1, "cpuSeconds": 0.5}


class Measured:
    """A microVM, or a guest in the pool, of which only the measurements count."""

    def __init__(self, usage: Usage | Exception, microvm: Any = None) -> None:
        self.usage, self.microvm, self.guest = usage, microvm, self
        self.id = "" if microvm is None else microvm.id

    def measure(self) -> Usage:
        if isinstance(self.usage, Exception):
            raise self.usage
        return self.usage


@pytest.fixture
def runners(world: World) -> Iterator[Runners]:
    yield world.plane.runners
    for runner in world.plane.runners.list_all():
        world.plane.runners.forget(runner.id)


async def test_the_server_is_described(world: World) -> None:
    described = await world.ok(EMBERBOX, "DescribeServer")
    assert isinstance(described.pop("startedAt"), (float, str))
    assert described.pop("version")
    assert described.pop("engines") == [
        {
            "name": "qemu", "description": "QEMU 7.2.22 with software emulation (TCG)", "accelerator": "tcg",
            "boundary": "none", "isDefault": True,
        }
    ]  # fmt: skip
    assert described == {"region": REGION, "accelerator": "tcg", "boundary": "none", "network": "user"}


async def test_the_machine_is_described(world: World) -> None:
    described = await world.ok(EMBERBOX, "DescribeHost")
    disk = os.statvfs(world.plane.directory)
    assert described["cpuCount"] == (os.cpu_count() or 1)
    assert described["memoryTotalInBytes"] == machine_memory().total
    assert 0 < described["memoryAvailableInBytes"] < described["memoryTotalInBytes"]
    assert 0 < described["diskFreeInBytes"] <= disk.f_blocks * disk.f_frsize
    assert 0 < described["diskReserveInBytes"] <= described["diskFreeInBytes"] + described["diskReserveInBytes"]
    assert described["loadAverage"] >= 0
    assert (described["microvms"], described["pooledMicrovms"]) == ([], [])
    assert len(described) == 8


async def test_what_each_microvm_of_the_caller_uses_is_told(world: World, runners: Runners) -> None:
    image, usage = world.plane.add_image("web"), Usage(3, 2, 1, 0.5)
    foreign = world.plane.add_image("other", account="111111111111")
    mine = world.plane.add_microvm(image, MicrovmState.RUNNING)
    for of, measured in (
        (mine, usage),
        (world.plane.add_microvm(image, MicrovmState.RUNNING), VmmError("it has just ended")),
        (world.plane.add_microvm(foreign, MicrovmState.RUNNING), usage),
    ):
        runners.add(Measured(measured, of))  # type: ignore[arg-type]
    described = await world.ok(EMBERBOX, "DescribeHost")
    assert described["microvms"] == [{"microvmId": mine.id, **SHOWN}]


async def test_what_is_pooled_for_the_caller_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image, foreign = world.plane.add_image("web"), world.plane.add_image("other", account="111111111111")
    usage = Usage(3, 2, 1, 0.5)
    pooled: dict[tuple[str, str], list[Any]] = {
        (image.id, "1.0"): [Pooled("microvm-1", Measured(usage))],  # type: ignore[arg-type]
        (image.id, "2.0"): [Pooled("microvm-2", Measured(OSError("it is just being taken")))],  # type: ignore[arg-type]
        (foreign.id, "1.0"): [Pooled("microvm-3", Measured(usage))],  # type: ignore[arg-type]
        ("gone", "1.0"): [Pooled("microvm-4", Measured(usage))],  # type: ignore[arg-type]
    }
    monkeypatch.setattr(world.plane.control.pool, "_ready", pooled)
    described = await world.ok(EMBERBOX, "DescribeHost")
    assert described["pooledMicrovms"] == [{"imageArn": image.arn, "imageVersion": "1.0", **SHOWN}]
