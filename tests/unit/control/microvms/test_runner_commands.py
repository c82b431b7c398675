"""A command that meets a suspend is started after it, as requests are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.guest.protocol import Command
from emberbox.model.errors import GuestError
from emberbox.model.launch_requests import IdlePolicy
from emberbox.model.states import MicrovmState
from support.fake_world import REQUEST, World

AUTO_RESUME = IdlePolicy(3600, 3600, resumes_itself=True)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    await world.close()


def freeze_under_a_command(world: World, runner: MicrovmRunner) -> list[Command]:
    """Let the guest be suspended while it is asked to start a command; return the commands that it was asked for."""
    asked: list[Command] = []

    async def open_command(command: Command) -> Any:
        asked.append(command)
        world.tasks.append(asyncio.create_task(runner.suspend()))
        await asyncio.sleep(0)
        raise GuestError("it is being suspended")

    world.machine.agents[-1].open_command = open_command  # type: ignore[method-assign, assignment]
    return asked


async def test_a_command_that_meets_a_suspend_is_started_after_the_resume(world: World) -> None:
    runner = await world.launched(request=replace(REQUEST, idle_policy=AUTO_RESUME))
    asked = freeze_under_a_command(world, runner)
    world.script.begin()
    assert await runner.requests.open_command(Command()) is not None
    assert len(asked) == world.script.steps.count("agent.open_command") == 1
    assert await world.check(runner) is MicrovmState.RUNNING


async def test_a_microvm_that_stays_suspended_runs_no_command(world: World) -> None:
    runner = await world.launched()
    freeze_under_a_command(world, runner)
    assert await runner.requests.open_command(Command()) is None
    assert await world.check(runner) is MicrovmState.SUSPENDED


async def test_a_refusal_of_a_running_guest_is_passed_on(world: World) -> None:
    runner = await world.launched()
    world.script.begin({0: world.script.fail})
    with pytest.raises(GuestError, match="the guest does not answer"):
        await runner.requests.open_command(Command())
    assert world.script.steps == ["agent.open_command"]
