"""The warm pool's rules, over a stand-in for what starts microVMs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.machine import pool as pool_module
from emberbox.machine.pool import WarmPool
from emberbox.model.errors import HostError, VmmError
from support.waiting import wait_for_async


class StandInGuest:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.alive, self.ended, self.breaks = True, False, False

    def is_alive(self) -> bool:
        return self.alive

    async def end(self) -> None:
        self.ended = True
        if self.breaks:
            raise KeyError("what nobody thought of")


class StandInHost:
    """Prepares stand-ins, or fails."""

    def __init__(self) -> None:
        self.prepared: list[StandInGuest] = []
        self.fails = False

    async def prepare(self, _snapshot: Any, directory: Path) -> StandInGuest:
        if self.fails:
            raise VmmError("QEMU did not start")
        self.prepared.append(StandInGuest(directory))
        return self.prepared[-1]


class World:
    def __init__(self, home: Path, size: int = 1) -> None:
        (home / "microvms").mkdir()
        self.broken: Exception | None
        self.home, self.host, self.launchable, self.broken = home, StandInHost(), True, None
        self.pool = WarmPool(self.host, home, size, lambda *_: None, self.is_launchable)  # type: ignore[arg-type, return-value]
        self.pool.start()

    def is_launchable(self, _image_id: str, _version: str) -> bool:
        if self.broken is not None:
            raise self.broken
        return self.launchable

    async def until(self, ready: int) -> None:
        async with asyncio.timeout(20):
            while len(self.pool.pooled()) != ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def directories(self) -> int:
        return len(list((self.home / "microvms").iterdir()))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(pool_module, "QUIET_S", 0.0)
    monkeypatch.setattr(pool_module, "_INTERVAL_S", 0.01)
    world = World(tmp_path)
    yield world
    await world.pool.close()
    assert world.directories() == 0


async def test_what_was_launched_is_kept_ready(world: World) -> None:
    assert world.pool.take("image", "1.0") is None
    await world.until(1)
    taken = world.pool.take("image", "1.0")
    assert taken is not None
    assert taken.guest is world.host.prepared[0]  # type: ignore[comparison-overlap]
    await world.until(1)
    await world.pool.end(taken)


async def test_nothing_is_prepared_while_something_was_just_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "QUIET_S", 3600.0)
    world.pool.take("image", "1.0")
    world.pool.postpone()
    await asyncio.sleep(0.2)  # many times the interval
    assert not world.host.prepared
    monkeypatch.setattr(pool_module, "QUIET_S", 0.0)
    world.pool.postpone()
    await world.until(1)


async def test_another_version_is_another_thing(world: World) -> None:
    world.pool.take("image", "1.0")
    await world.until(1)
    assert world.pool.take("image", "2.0") is None
    await world.until(2)


async def test_what_died_is_not_handed_out(world: World) -> None:
    world.pool.take("image", "1.0")
    await world.until(1)
    world.host.prepared[0].alive = False
    assert world.pool.take("image", "1.0") is None
    await world.until(1)
    await wait_for_async("it is ended", lambda: world.host.prepared[0].ended)


async def test_memory_that_others_need_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pool.take("image", "1.0")
    await world.until(1)
    monkeypatch.setattr(pool_module, "has_room", lambda: False)
    await world.until(0)
    await wait_for_async("it is ended", lambda: world.host.prepared[0].ended)


async def test_a_version_is_forgotten_when_it_may_not_be_launched_or_was_not_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pool.take("image", "1.0")
    await world.until(1)
    world.launchable = False
    await world.until(0)
    world.launchable = True
    monkeypatch.setattr(pool_module, "WARM_FOR_S", 0.0)
    world.pool.take("image", "1.0")
    await asyncio.sleep(0.1)
    assert len(world.host.prepared) == 1


async def test_what_cannot_be_prepared_leaves_nothing_and_is_tried_after_the_next_launch(world: World) -> None:
    world.host.fails = True
    world.pool.take("image", "1.0")
    await asyncio.sleep(0.1)
    assert world.directories() == 0
    world.host.fails = False
    world.pool.take("image", "1.0")
    await world.until(1)


@pytest.mark.parametrize("problem", [HostError("the database cannot be used"), KeyError("unexpected")])
async def test_what_cannot_be_found_out_for_a_moment_does_not_end_the_pool(world: World, problem: Exception) -> None:
    world.pool.take("image", "1.0")
    await world.until(1)
    world.broken = problem
    await asyncio.sleep(0.1)
    world.broken = None
    await world.pool.end(world.pool.take("image", "1.0"))  # type: ignore[arg-type]
    await world.until(1)


async def test_one_that_cannot_be_ended_in_order_keeps_no_other_from_being_ended(world: World) -> None:
    for version in ("1.0", "2.0", "3.0"):
        world.pool.take("image", version)
    await world.until(3)
    for guest in world.host.prepared[:2]:
        guest.breaks = True
    await world.pool.close()
    assert all(guest.ended for guest in world.host.prepared)
    assert world.directories() == 0


async def test_no_pool_takes_no_memory(tmp_path: Path) -> None:
    world = World(tmp_path, size=0)
    assert world.pool.take("image", "1.0") is None
    await world.pool.close()
    assert world.directories() == 0
