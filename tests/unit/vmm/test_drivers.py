"""The engines of one server, by name."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from emberbox.model.errors import HostError, VmmError
from emberbox.vmm.base import VmmDriver
from emberbox.vmm.drivers import Drivers
from emberbox.vmm.engine import Engine

QEMU, GVISOR = Engine("QEMU", "7.2.22", "tcg"), Engine("gVisor", "20240729.0", "systrap")


class Driver:
    """An engine in name only."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


class Maker:
    """Makes the other one, unless there is a problem; `gate` holds it up."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, name: str) -> VmmDriver:
        self.asked.append(name)
        await self.gate.wait()
        if self.problem:
            raise HostError(self.problem)
        made: Any = Driver(GVISOR)
        return made  # type: ignore[no-any-return]


def drivers(maker: Maker) -> Drivers:
    own: Any = Driver(QEMU)
    return Drivers(own, maker)


async def test_another_is_made_once_when_it_is_first_asked_for() -> None:
    maker = Maker()
    engines = drivers(maker)
    assert (await engines.ensure(), await engines.ensure("qemu")) == (engines.own, engines.own)
    assert maker.asked == []
    first, second = await asyncio.gather(engines.ensure("gvisor"), engines.ensure("gvisor"))
    assert first is second is await engines.ensure("gvisor")
    assert maker.asked == ["gvisor"]
    assert [one.engine for one in engines.list_made()] == [QEMU, GVISOR]


async def test_who_gives_up_waiting_does_not_stop_the_making() -> None:
    maker = Maker()
    maker.gate.clear()
    engines = drivers(maker)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await engines.ensure("gvisor")
    maker.gate.set()
    assert (await engines.ensure("gvisor")).engine is GVISOR
    assert maker.asked == ["gvisor"]
    await engines.close()


async def test_one_that_fails_is_tried_again_and_until_then_says_why_nothing_is_loaded() -> None:
    maker = Maker("there is no runsc")
    engines = drivers(maker)
    with pytest.raises(HostError, match="there is no runsc"):
        await engines.ensure("gvisor")
    told = engines.find_obstacle(GVISOR)
    assert told == f"it was saved by {GVISOR}, which cannot be used here: there is no runsc"
    with pytest.raises(VmmError, match="there is no runsc"):
        engines.get(GVISOR)
    maker.problem = ""
    await engines.ensure("gvisor")
    assert engines.find_obstacle(GVISOR) is None
    assert engines.get(GVISOR).engine is GVISOR


async def test_state_is_held_against_the_engine_that_it_names() -> None:
    engines = drivers(Maker())
    assert "EMBERBOX_ENGINE=gvisor" in (engines.find_obstacle(GVISOR) or "")
    await engines.ensure("gvisor")
    assert engines.find_obstacle(None) is engines.find_obstacle(QEMU) is engines.find_obstacle(GVISOR) is None
    newer = replace(GVISOR, version="20990101.0")
    assert "install gVisor 20990101" in (engines.find_obstacle(newer) or "")
    assert engines.get(newer) is engines.get(GVISOR)  # a guest that runs is not loaded
    assert engines.get(None) is engines.own
    xen = replace(QEMU, vmm="Xen")
    assert "saved by Xen" in (engines.find_obstacle(xen) or "")
    with pytest.raises(VmmError, match="saved by Xen"):
        engines.get(xen)


async def test_there_may_be_no_other() -> None:
    own: Any = Driver(QEMU)
    with pytest.raises(HostError, match="no engine gvisor"):
        await Drivers(own).ensure("gvisor")
