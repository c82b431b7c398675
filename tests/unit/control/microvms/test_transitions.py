"""Every change of a microVM, cut short and failing at every step: row, VMM and files go on saying the same.

On a machine without microVMs (tests/support/fake_machine.py). What must hold is in docs/crash-safety.md.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from emberbox.background import in_thread
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.model.errors import HostError, InternalError
from emberbox.model.launch_requests import IdlePolicy
from emberbox.model.states import MicrovmState
from emberbox.vmm.base import Written
from emberbox.vmm.paged import saving
from support.fake_machine import given_up, is_foreseen
from support.fake_world import REQUEST, World
from support.waiting import wait_for_async

RUNNING, SUSPENDED, TERMINATED = MicrovmState.RUNNING, MicrovmState.SUSPENDED, MicrovmState.TERMINATED


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    await world.close()


async def _new(world: World) -> MicrovmRunner:
    return world.runner(world.add())


async def _launch(world: World, runner: MicrovmRunner) -> None:
    runner.begin_to_launch()
    await world.idle(runner)
    if world.row(runner).state is RUNNING:
        world.vm(runner).put(9, 9)


async def _suspend(_world: World, runner: MicrovmRunner) -> None:
    await runner.suspend()


async def _resume(_world: World, runner: MicrovmRunner) -> None:
    await runner.resume()


async def _checkpoint(world: World, runner: MicrovmRunner) -> None:
    await world.take_checkpoint(runner)


async def _roll_back(world: World, runner: MicrovmRunner) -> None:
    """Go back to a checkpoint that has all that was there; what came after it is lost."""
    await runner.roll_back(world.checkpoint)


async def _with_checkpoint(world: World, begin: Callable[[World], Awaitable[MicrovmRunner]]) -> MicrovmRunner:
    runner = await begin(world)
    world.checkpoint = await world.take_checkpoint(runner)
    return runner


async def _terminate(world: World, runner: MicrovmRunner) -> None:
    runner.begin_to_terminate("Success.")
    await world.idle(runner)


@dataclass(frozen=True)
class Change:
    """A change that is tried: from what, how, to what when nothing is in its way, and what else may come of an error.

    `may_end` is whether the microVM may end by an error: of a launch nothing can be kept, and a guest that has begun
    to run cannot go back to what it was saved as.
    """

    begin: Callable[[World], Awaitable[MicrovmRunner]]
    make: Callable[[World, MicrovmRunner], Awaitable[None]]
    result: MicrovmState
    may_end: bool = False


CHANGES = {
    "launch": Change(_new, _launch, RUNNING, may_end=True),
    "suspend": Change(World.launched, _suspend, SUSPENDED),
    "resume": Change(World.suspended, _resume, RUNNING, may_end=True),
    "checkpoint": Change(World.launched, _checkpoint, RUNNING),
    "checkpoint while suspended": Change(World.suspended, _checkpoint, SUSPENDED),
    "rollback": Change(lambda world: _with_checkpoint(world, World.launched), _roll_back, RUNNING, may_end=True),
    "rollback while suspended": Change(
        lambda world: _with_checkpoint(world, World.suspended), _roll_back, RUNNING, may_end=True
    ),
    "terminate": Change(World.launched, _terminate, TERMINATED),
    "terminate while suspended": Change(World.suspended, _terminate, TERMINATED),
}

AUTO_RESUME = IdlePolicy(3600, 3600, resumes_itself=True)

every_change = pytest.mark.parametrize("name", CHANGES)


async def steps_of(world: World, change: Change) -> int:
    """Return how many steps a change has when nothing is in its way."""
    runner = await change.begin(world)
    world.script.begin()
    await change.make(world, runner)
    await world.idle(runner)
    count = len(world.script.steps)
    assert await world.check(runner) is change.result
    await finish(world, runner)
    return count


async def finish(world: World, runner: MicrovmRunner) -> None:
    """End a microVM that was tried; nothing of it may be left."""
    world.script.begin()
    if world.row(runner).state is not TERMINATED:
        runner.begin_to_terminate("Success.")
    assert await world.check(runner) is TERMINATED


@every_change
async def test_a_caller_who_goes_away_at_any_step_changes_nothing(world: World, name: str) -> None:
    """As if he had waited: the change comes to its end, with all that the microVM had."""
    change = CHANGES[name]
    for number in range(await steps_of(world, change)):
        runner = await change.begin(world)
        asking = asyncio.create_task(change.make(world, runner))  # type: ignore[arg-type]
        world.script.begin({number: asking.cancel})  # type: ignore[dict-item]
        await given_up(asking)
        assert await world.check(runner) is change.result, world.script.steps[number]
        if change.result is not TERMINATED and name != "launch":
            assert await world.memory(runner, 9) == 9
        await finish(world, runner)


@every_change
@pytest.mark.parametrize("twice", [(), (1,), (2,), (1, 2, 3)], ids=["once", "the next", "the one after", "all after"])
async def test_an_error_at_any_step_leaves_a_settled_microvm(world: World, name: str, twice: tuple[int, ...]) -> None:
    """And where that is not the end of it, it can be suspended, resumed and ended like any other."""
    change = CHANGES[name]
    for number in range(await steps_of(world, change)):
        runner = await change.begin(world)
        world.script.begin({number + later: world.script.fail for later in (0, *twice)})
        error = await given_up(change.make(world, runner))
        assert is_foreseen(error), (world.script.steps[number], error)
        state = await world.check(runner, tidy=not twice)
        told = world.script.steps[number : number + 4], error
        world.script.begin()
        if state is not TERMINATED:
            assert change.result is not TERMINATED or isinstance(error, HostError), told
            assert name == "launch" or await world.memory(runner, 9) == 9, told
            await runner.suspend()
            await runner.resume()
            assert await world.check(runner, tidy=not twice) is RUNNING, told
        elif change.result is not TERMINATED:
            assert change.may_end or len(twice) > 0, told
        await finish(world, runner)


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "launch"])  # which nobody can ask for twice
async def test_a_change_that_is_asked_for_twice_at_once_is_made_once(world: World, name: str) -> None:
    change = CHANGES[name]
    runner = await change.begin(world)
    world.script.begin()
    for error in await asyncio.gather(*(given_up(change.make(world, runner)) for _ in range(2))):
        assert error is None
    assert await world.check(runner) is change.result
    assert world.script.steps.count("agent.suspend hook") == (name == "suspend")
    await finish(world, runner)


async def stopped_at(world: World, runner: MicrovmRunner, number: int, asking: asyncio.Task[None]) -> None:
    """Stop the runner at a step of what was asked of it; whoever asked is cancelled with the server."""
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        stopping.append(asyncio.create_task(runner.stop()))
        asking.cancel()

    world.script.begin({number: stop})
    await given_up(asking)
    await asyncio.gather(*stopping)


@every_change
async def test_a_stop_at_any_step_loses_nothing(world: World, name: str) -> None:
    """The server is stopped, and whoever asked is cancelled with it; the next one has the microVM as it should be."""
    change = CHANGES[name]
    for number in range(await steps_of(world, change)):
        runner = await change.begin(world)
        asking = asyncio.create_task(change.make(world, runner))  # type: ignore[arg-type]
        await stopped_at(world, runner, number, asking)
        assert all(not vm.alive for vm in world.machine.vms)
        expected = TERMINATED if change.result is TERMINATED else SUSPENDED
        assert world.row(runner).state is expected, world.script.steps[number]
        runner = await world.restart(runner)
        assert await world.check(runner) is expected
        if expected is SUSPENDED and name != "launch":
            assert await world.memory(runner, 9) == 9
        await finish(world, runner)


@every_change
async def test_a_stop_that_may_not_wait_leaves_what_the_next_server_settles(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patience is over at once: what was under way is cancelled where it is."""
    change = CHANGES[name]
    steps = await steps_of(world, change)
    monkeypatch.setattr("emberbox.control.microvms.runner.STOPS_WITHIN_S", 0.0)
    for number in range(steps):
        runner = await change.begin(world)
        asking = asyncio.create_task(change.make(world, runner))  # type: ignore[arg-type]
        await stopped_at(world, runner, number, asking)
        assert all(not vm.alive for vm in world.machine.vms), world.script.steps[number:]
        runner = await world.restart(runner)
        state = await world.check(runner)
        if state is SUSPENDED:
            assert await world.memory(runner, 9) == 9
        await finish(world, runner)


async def test_a_lifetime_that_ends_while_the_database_is_full_is_over_when_it_can_be_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emberbox.control.microvms.deadlines.RETRY_INTERVAL_S", 0.01)
    runner = await world.launched(request=replace(REQUEST, max_duration_s=0))
    world.script.begin(dict.fromkeys(range(3), world.script.fail))
    runner.start_lifetime()
    await wait_for_async("it has ended", lambda: world.row(runner).state is TERMINATED)
    assert await world.check(runner) is TERMINATED
    assert world.row(runner).state_reason == "MicroVM exceeded maximum lifetime"


async def test_a_second_stop_waits_for_the_first(world: World) -> None:
    runner = await world.launched()
    await asyncio.gather(runner.stop(), runner.stop())
    assert await world.check(await world.restart(runner)) is SUSPENDED


async def test_a_guest_that_cannot_be_suspended_when_the_server_stops_ends_and_says_so(world: World) -> None:
    runner = await world.launched()
    world.script.begin(dict.fromkeys(range(100), lambda: fail_in_threads(world)))
    await runner.stop()
    assert await world.check(runner) is TERMINATED
    assert world.row(runner).state_reason == "The MicroVM could not be suspended when the server stopped."


def fail_in_threads(world: World) -> None:
    """Let whatever is written to the disk fail, but for what undoes it."""
    if world.script.steps[-1] == "thread.save_changes":
        world.script.fail()


async def test_nothing_is_resumed_any_more_when_the_server_stops(world: World) -> None:
    """A request at its endpoint waits for the suspend under way and would resume it; so does a caller."""
    runner = await world.launched(request=replace(REQUEST, idle_policy=AUTO_RESUME))
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    asked = await asyncio.gather(*(given_up(work) for work in (runner.requests.reach(8080), runner.resume())))
    await stopping
    assert all(isinstance(error, InternalError | asyncio.CancelledError) for error in asked), asked
    assert len(world.machine.vms) == 1
    assert await world.check(await world.restart(runner)) is SUSPENDED


async def test_no_vmm_is_ended_while_a_thread_still_reads_its_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by a stop that may not wait: the thread comes to its end, and what it has saved counts."""
    runner, reading, was_alive = await world.launched(), threading.Event(), []
    vm, write = world.vm(runner), saving.save_changes

    def write_slowly(*args: Any) -> Written:
        reading.set()
        time.sleep(0.3)
        written = write(*args)
        was_alive.append(vm.alive)
        return written

    monkeypatch.setattr(saving, "save_changes", write_slowly)
    monkeypatch.setattr(world.script, "in_thread", in_thread)
    monkeypatch.setattr("emberbox.control.microvms.runner.STOPS_WITHIN_S", 0.01)
    asking = asyncio.create_task(runner.suspend())
    await wait_for_async("the thread reads", reading.is_set)
    await runner.stop()
    await given_up(asking)
    assert was_alive == [True]
    runner = await world.restart(runner)
    assert await world.check(runner) is SUSPENDED
    assert await world.memory(runner, 9) == 9
