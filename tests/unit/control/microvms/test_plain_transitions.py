"""Each transition on the plain fake machine: it works; asked for again, cut short, and failing at every step.

`test_transitions.py` tries the same on the machine that we have, over a VMM and an agent that are objects. Here is
what must hold of the control plane alone, whatever machine is behind the wall.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.machine.base import AgentLost, Exited, VmmEnded
from emberbox.model.launch_requests import IdlePolicy
from emberbox.model.states import MicrovmState
from support.fake_machine import given_up, is_foreseen
from support.fake_world import REQUEST
from support.plain_world import PlainWorld
from support.waiting import wait_for_async

RUNNING, SUSPENDED, TERMINATED = MicrovmState.RUNNING, MicrovmState.SUSPENDED, MicrovmState.TERMINATED
AUTO_RESUME = replace(REQUEST, idle_policy=IdlePolicy(3600, 3600, resumes_itself=True))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PlainWorld]:
    world = PlainWorld(tmp_path, monkeypatch)
    yield world
    await world.close()


async def _new(world: PlainWorld) -> MicrovmRunner:
    return world.runner()


async def _launch(world: PlainWorld, runner: MicrovmRunner) -> None:
    runner.begin_to_launch()
    await world.idle(runner)
    if world.row(runner).state is RUNNING:
        world.machine.mine[runner.id].memory["noted"] = 9


async def _suspend(_world: PlainWorld, runner: MicrovmRunner) -> None:
    await runner.suspend()


async def _resume(_world: PlainWorld, runner: MicrovmRunner) -> None:
    await runner.resume()


async def _wake(_world: PlainWorld, runner: MicrovmRunner) -> None:
    assert await runner.requests.wake() is not None


async def _checkpoint(_world: PlainWorld, runner: MicrovmRunner) -> None:
    await runner.take_checkpoint("one")


async def _roll_back(_world: PlainWorld, runner: MicrovmRunner) -> None:
    await runner.roll_back("before")


async def _terminate(world: PlainWorld, runner: MicrovmRunner) -> None:
    runner.begin_to_terminate("Success.")
    await world.idle(runner)


async def _take_over(world: PlainWorld, runner: MicrovmRunner) -> None:
    runner.begin_to_take_over()
    await world.idle(runner)


async def _with_checkpoint(world: PlainWorld, begin: Callable[..., Awaitable[MicrovmRunner]]) -> MicrovmRunner:
    runner = await begin(request=AUTO_RESUME)
    await runner.take_checkpoint("before")
    await world.context.checkpoints.keep("before", runner.version.image_id, "before")
    return runner


async def _survived(world: PlainWorld) -> MicrovmRunner:
    """Return the next server's owner of a microVM whose server was killed; nothing is begun with it yet."""
    killed = await world.launched()
    await killed._life.background.close()
    world.begin()
    (row,) = world.store.take_over("local")
    return MicrovmRunner(world.context, row, world.version, None)


@dataclass(frozen=True)
class Change:
    """A transition: from what, how, to what; and whether an error may end the microVM."""

    begin: Callable[[PlainWorld], Awaitable[MicrovmRunner]]
    make: Callable[[PlainWorld, MicrovmRunner], Awaitable[None]]
    result: MicrovmState
    may_end: bool = False
    asks_again: bool = True


CHANGES = {
    "launch": Change(_new, _launch, RUNNING, may_end=True, asks_again=False),
    "take-over": Change(_survived, _take_over, RUNNING, may_end=True, asks_again=False),
    "suspend": Change(lambda world: world.launched(), _suspend, SUSPENDED),
    "resume": Change(lambda world: world.suspended(), _resume, RUNNING),
    "wake": Change(lambda world: world.suspended(request=AUTO_RESUME), _wake, RUNNING),
    "checkpoint": Change(lambda world: world.launched(), _checkpoint, RUNNING),
    "checkpoint while suspended": Change(lambda world: world.suspended(), _checkpoint, SUSPENDED),
    "rollback": Change(lambda world: _with_checkpoint(world, world.launched), _roll_back, RUNNING, may_end=True),
    "rollback while suspended": Change(
        lambda world: _with_checkpoint(world, world.suspended), _roll_back, RUNNING, may_end=True
    ),
    "terminate": Change(lambda world: world.launched(), _terminate, TERMINATED),
    "terminate while suspended": Change(lambda world: world.suspended(), _terminate, TERMINATED),
}

every_change = pytest.mark.parametrize("name", CHANGES)


async def works(world: PlainWorld, change: Change) -> int:
    """Make a change with nothing in its way; return how many steps it had."""
    runner = await change.begin(world)
    world.script.begin()
    await change.make(world, runner)
    await world.idle(runner)
    count = len(world.script.steps)
    assert await world.check(runner) is change.result
    if change.result is not TERMINATED:
        assert await world.memory(runner) == 9
    await finish(world, runner)
    return count


async def finish(world: PlainWorld, runner: MicrovmRunner) -> None:
    """End a microVM that was tried; nothing of it may be left."""
    world.script.begin()
    if world.row(runner).state is not TERMINATED:
        runner.begin_to_terminate("Success.")
    assert await world.check(runner) is TERMINATED


@every_change
async def test_it_works(world: PlainWorld, name: str) -> None:
    assert await works(world, CHANGES[name]) > 0


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.asks_again])
async def test_it_may_be_asked_for_again_at_every_step(world: PlainWorld, name: str) -> None:
    change = CHANGES[name]
    for number in range(await works(world, change)):
        runner, again = await change.begin(world), list[asyncio.Task[BaseException | None]]()
        world.script.begin(
            {number: lambda: again.append(asyncio.create_task(given_up(change.make(world, runner))))}  # noqa: B023
        )
        await change.make(world, runner)
        assert is_foreseen(await again[0])
        assert await world.check(runner) is change.result, world.script.steps[number]
        if change.result is not TERMINATED:
            assert await world.memory(runner) == 9
        await finish(world, runner)


@every_change
async def test_whoever_asked_may_go_away_at_every_step(world: PlainWorld, name: str) -> None:
    change = CHANGES[name]
    for number in range(await works(world, change)):
        runner = await change.begin(world)
        asking = asyncio.create_task(change.make(world, runner))  # type: ignore[arg-type]
        world.script.begin({number: asking.cancel})  # type: ignore[dict-item]
        await given_up(asking)
        assert await world.check(runner) is change.result, world.script.steps[number]
        await finish(world, runner)


@every_change
@pytest.mark.parametrize("later", [(), (1,), (1, 2, 3)], ids=["once", "and the next", "and all after"])
async def test_it_may_fail_at_every_step(world: PlainWorld, name: str, later: tuple[int, ...]) -> None:
    """And what is left can be suspended, resumed and ended like any other."""
    change = CHANGES[name]
    for number in range(await works(world, change)):
        runner = await change.begin(world)
        world.script.begin({number + more: world.script.fail for more in (0, *later)})
        error = await given_up(change.make(world, runner))
        assert is_foreseen(error), (world.script.steps[number], error)
        state = await world.check(runner)
        told = world.script.steps[number : number + 4], error
        world.script.begin()
        if state is not TERMINATED:
            assert name == "launch" or await world.memory(runner) == 9, told
            await runner.suspend()
            await runner.resume()
            assert await world.check(runner) is RUNNING, told
        else:
            assert change.may_end or change.result is TERMINATED or len(later) > 0, told
        await finish(world, runner)


@every_change
async def test_the_server_may_stop_at_every_step(world: PlainWorld, name: str) -> None:
    change = CHANGES[name]
    for number in range(await works(world, change)):
        runner, stopping = await change.begin(world), list[asyncio.Task[None]]()
        asking = asyncio.create_task(change.make(world, runner))  # type: ignore[arg-type]

        def stop() -> None:
            stopping.append(asyncio.create_task(runner.stop()))  # noqa: B023
            asking.cancel()  # noqa: B023

        world.script.begin({number: stop})
        await given_up(asking)
        await asyncio.gather(*stopping)
        expected = TERMINATED if change.result is TERMINATED else SUSPENDED
        assert world.row(runner).state is expected, world.script.steps[number]
        assert not world.disk.vmms
        await finish(world, await world.restart(runner))


# --- what the machine tells


async def test_an_application_that_exits_ends_its_microvm(world: PlainWorld) -> None:
    runner = await world.launched()
    world.disk.vmms[runner.id].tell(Exited(3))
    await wait_for_async("it has ended", lambda: world.row(runner).state is TERMINATED)
    assert world.row(runner).state_reason == "Container Stopped with Exit Code: 3"


async def test_a_vmm_that_ends_ends_its_microvm(world: PlainWorld) -> None:
    runner = await world.launched()
    world.disk.vmms[runner.id].tell(VmmEnded("it was killed"))
    await wait_for_async("it has ended", lambda: world.row(runner).state is TERMINATED)
    assert world.row(runner).state_reason == "The microVM's VMM ended unexpectedly: it was killed"


async def test_an_agent_that_is_lost_is_looked_for(world: PlainWorld) -> None:
    runner = await world.launched()
    world.script.begin()
    world.disk.vmms[runner.id].tell(AgentLost("the guest broke the protocol"))
    await wait_for_async("it is found", lambda: "machine.reconnect" in world.script.steps)
    assert await world.check(runner) is RUNNING
    assert await world.memory(runner) == 9


async def test_what_is_told_of_an_earlier_run_ends_no_later_one(world: PlainWorld) -> None:
    runner = await world.launched()
    first = world.disk.vmms[runner.id]
    await runner.suspend()
    await runner.resume()
    first.tell(VmmEnded("late"))
    assert await world.check(runner) is RUNNING


async def test_a_killed_servers_microvm_goes_on_and_its_owner_changes_nothing_more(world: PlainWorld) -> None:
    """Its thread, or its event loop, may come to life again after the next server has begun."""
    killed = await world.launched()
    vmm = world.disk.vmms[killed.id]
    again = await world.restart(killed)
    assert await world.check(again) is RUNNING
    assert world.disk.vmms[killed.id] is vmm
    assert not killed.begin_to_terminate("Success.")
    await killed.suspend()
    assert await world.check(again) is RUNNING
    assert world.row(again).generation == 2
    await killed._life.background.close()
