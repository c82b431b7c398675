"""A microVM that starts from a snapshot of its own never becomes one of its image's, whatever is lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.model.errors import InternalError
from emberbox.model.states import MicrovmState
from support.fake_world import World

PENDING, RUNNING, SUSPENDED, TERMINATED = (
    MicrovmState.PENDING,
    MicrovmState.RUNNING,
    MicrovmState.SUSPENDED,
    MicrovmState.TERMINATED,
)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    await world.close()


async def a_fork(world: World) -> MicrovmRunner:
    """Return the owner of a fork that is to be launched, with its base."""
    source = await world.launched()
    await source.take_checkpoint("base")
    source.begin_to_terminate("Success.")
    await world.idle(source)
    fork = world.runner(world.add(own_base=True))
    await world.context.checkpoints.give("base", [fork.id])
    await world.context.checkpoints.drop("base")
    return fork


async def test_a_fork_goes_on_from_its_base_also_with_the_next_server(world: World) -> None:
    fork = await a_fork(world)
    fork = await world.restart(fork)  # it was killed before the launch
    assert await world.check(fork) is RUNNING
    assert await world.memory(fork, 9) == 9


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_fork_without_its_base_is_not_launched_from_the_image(world: World, restarts: bool) -> None:
    fork = await a_fork(world)
    shutil.rmtree(world.directory(fork) / "base")
    if restarts:
        fork = await world.restart(fork)
    else:
        fork.begin_to_launch()
    assert await world.check(fork) is TERMINATED
    assert "the snapshot in base is missing or damaged" in str(world.row(fork).state_reason)


async def test_a_launch_that_was_cut_short_is_done_again_from_the_base(world: World) -> None:
    """What it had made is removed, whatever that is; its base is not."""
    fork = await a_fork(world)
    (world.directory(fork) / "disk").write_bytes(b"half made")
    (world.directory(fork) / "trial").mkdir()
    fork = await world.restart(fork)
    assert await world.check(fork) is RUNNING
    assert await world.memory(fork, 9) == 9


async def test_a_suspended_fork_without_its_base_stays_so_until_it_is_back(world: World) -> None:
    fork = await a_fork(world)
    fork.begin_to_launch()
    await world.idle(fork)
    await fork.suspend()
    base, away = world.directory(fork) / "base", world.home / "away"
    base.rename(away)
    with pytest.raises(InternalError, match="still suspended"):
        await fork.resume()
    assert await world.check(fork) is SUSPENDED
    away.rename(base)
    assert await world.memory(fork, 9) == 9


async def test_one_that_was_rolled_back_knows_that_it_has_a_base(world: World) -> None:
    runner = await world.launched()
    before = await world.take_checkpoint(runner)
    world.vm(runner).put(9, 7)
    await runner.roll_back(before)
    assert world.row(runner).own_base
    assert await world.memory(runner, 9) == 9
    await runner.suspend()
    shutil.rmtree(world.directory(runner) / "base")
    with pytest.raises(InternalError, match="still suspended"):
        await (await world.restart(runner)).resume()
    assert await world.check(runner) is SUSPENDED
