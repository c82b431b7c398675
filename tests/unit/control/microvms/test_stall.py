"""A microVM that stands still for want of room on the host's disk, on a machine without microVMs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from emberbox.control.microvms import stall, watch
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.machine.connections import Connector
from emberbox.machine.local import machine as local_machine
from emberbox.machine.survivors import Survivor
from emberbox.model.errors import ConflictError
from emberbox.model.states import MicrovmState
from emberbox.process.adoption import AdoptedProcess
from support.fake_machine import FAULTS, FakeConnection, FakeMachine, FakeVm, given_up
from support.fake_world import World
from support.waiting import wait_for_async

RUNNING, SUSPENDED, TERMINATED = MicrovmState.RUNNING, MicrovmState.SUSPENDED, MicrovmState.TERMINATED


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(stall, "RETRY_S", 0.01)
    monkeypatch.setattr(stall, "RETRY_MAX_S", 0.01)
    monkeypatch.setattr(watch, "GOES_ON_WITHIN_S", 0.05)
    monkeypatch.setattr(local_machine, "GOES_ON_WITHIN_S", 0.05)
    world = World(tmp_path, monkeypatch)
    yield world
    await world.close()


async def stalled(world: World) -> MicrovmRunner:
    """Return the owner of a microVM that stands still."""
    runner = await world.launched()
    world.vm(runner).meet_full_disk()
    await wait_for_async("it says so", lambda: runner.stalled)
    return runner


class Adopting:
    """Connects again what an earlier server has connected."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def adopt(self, _microvm_id: str, _slot: int | None, _device: object) -> FakeConnection:
        self._machine.connections[:] = [FakeConnection(self._machine)]
        return self._machine.connections[0]

    async def let_go(self, microvm_id: str) -> None:
        """Nothing is held."""


class Process:
    """The process of a VMM that an earlier server has started."""

    def __init__(self, vm: FakeVm) -> None:
        self._vm = vm

    async def kill_group(self) -> None:
        self._vm.die()


def next_server(world: World, runner: MicrovmRunner) -> MicrovmRunner:
    """Return the next server's owner of a microVM whose VMM runs on."""
    world.begin({runner.id: Survivor(cast("AdoptedProcess", Process(world.vm(runner))), None, None)})
    world.guests._connector = cast("Connector", Adopting(world.machine))
    again = world.runner(world.row(runner))
    again.begin_to_take_over()
    return again


async def test_it_says_why_and_goes_on_by_itself_with_all_it_had(world: World) -> None:
    runner = await stalled(world)
    vm = world.vm(runner)
    assert "stands still" in str(runner.stalled)
    assert "free some space" in str(runner.stalled)
    await asyncio.sleep(0.2)  # it is tried in vain meanwhile
    assert runner.stalled
    assert world.row(runner).state is RUNNING
    world.machine.disk_is_full = False
    await wait_for_async("it goes on", lambda: runner.stalled is None)
    assert world.vm(runner) is vm
    assert await world.check(runner) is RUNNING
    assert vm.get(9) == 9


@pytest.mark.parametrize("ask", ["suspend", "take_checkpoint", "reach"])
async def test_what_its_guest_would_have_to_answer_is_refused_with_the_reason(world: World, ask: str) -> None:
    runner = await stalled(world)
    asked = {
        "suspend": runner.suspend,
        "take_checkpoint": lambda: runner.take_checkpoint("one"),
        "reach": lambda: runner.requests.reach(8080),
    }
    error = await given_up(asked[ask]())
    assert isinstance(error, ConflictError)
    assert "stands still" in str(error)
    world.machine.disk_is_full = False
    await wait_for_async("it goes on", lambda: runner.stalled is None)
    assert await world.check(runner) is RUNNING


async def full_with_held_writes(world: World) -> MicrovmRunner:
    """Return the owner of a microVM that runs and whose writes are held up, since the disk is nearly full."""
    runner = await world.launched()
    world.space._reserve = 1 << 62
    world.space.look()
    await world.guests._hold_writes(True)
    assert world.vm(runner).holds_writes
    return runner


@pytest.mark.parametrize("ask", ["suspend", "stop"])
async def test_one_that_waits_for_its_write_is_suspended_all_the_same(world: World, ask: str) -> None:
    runner = await full_with_held_writes(world)
    await (runner.suspend() if ask == "suspend" else runner.stop())
    assert world.row(runner).state is SUSPENDED


async def test_a_checkpoint_of_one_that_waits_for_its_write_leaves_it_waiting(world: World) -> None:
    runner = await full_with_held_writes(world)
    await world.take_checkpoint(runner)
    assert world.vm(runner).holds_writes
    assert await world.check(runner) is RUNNING


async def test_it_can_be_terminated(world: World) -> None:
    runner = await stalled(world)
    runner.begin_to_terminate("Success.")
    assert await world.check(runner) is TERMINATED
    assert world.row(runner).state_reason == "Success."


async def test_a_server_that_stops_saves_it_as_it_stands(world: World) -> None:
    runner = await stalled(world)
    await runner.stop()
    assert await world.check(runner) is SUSPENDED
    world.machine.disk_is_full = False
    again = await world.restart(runner)
    assert await world.memory(again, 9) == 9
    assert await world.check(again) is RUNNING


@pytest.mark.parametrize("stands_still", [False, True])
async def test_a_server_that_stops_without_room_to_save_it_leaves_it_running(
    world: World, monkeypatch: pytest.MonkeyPatch, stands_still: bool
) -> None:
    """Its VMM goes on without a server, as after a kill."""
    runner = await (stalled(world) if stands_still else world.launched())
    vm = world.vm(runner)
    monkeypatch.setitem(FAULTS, "thread", lambda: OSError(28, "No space left on device"))

    def fail_to_save() -> None:
        if world.script.steps[-1] == "thread.save_changes":
            world.script.fail()

    world.script.begin(dict.fromkeys(range(100), fail_to_save))
    await runner.stop()
    assert world.vm(runner) is vm
    assert vm.alive
    assert world.row(runner).state in (RUNNING, MicrovmState.SUSPENDING)
    world.script.begin()
    world.machine.disk_is_full = False
    again = next_server(world, runner)
    assert await world.check(again) is RUNNING
    assert world.vm(again) is vm
    assert vm.get(9) == 9


@pytest.mark.parametrize("then", ["room", "terminate", "stop"])
async def test_the_next_server_finds_it_as_it_stands(world: World, then: str) -> None:
    first = await stalled(world)
    vm = world.vm(first)
    again = next_server(world, first)
    await wait_for_async("it says so", lambda: again.stalled)
    match then:
        case "room":
            world.machine.disk_is_full = False
            await wait_for_async("it goes on", lambda: again.stalled is None)
            assert await world.check(again) is RUNNING
            assert vm.get(9) == 9
        case "terminate":
            again.begin_to_terminate("Success.")
            assert await world.check(again) is TERMINATED
            assert world.row(again).state_reason == "Success."
        case "stop":
            await again.stop()
            assert vm.alive
            world.machine.disk_is_full = False
            assert await world.check(next_server(world, again)) is RUNNING
            assert vm.get(9) == 9
