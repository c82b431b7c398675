"""A command that meets a suspend is started after it, as requests are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.guest.protocol import Command
from emberbox.model.errors import GuestError


@dataclass
class Guest:
    """A guest whose agent answers with what `answers` holds; an error stands for a guest that is frozen."""

    answers: list[Any]
    asked: list[Command] = field(default_factory=list)

    @property
    def agent(self) -> Guest:
        return self

    async def open_command(self, command: Command) -> Any:
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def make_runner(*guests: Guest | None) -> MicrovmRunner:
    """Return a runner that runs these guests, one after the other."""
    runner: Any = object.__new__(MicrovmRunner)
    runner._lock = asyncio.Lock()
    coming = list(guests)

    async def find_running() -> Guest | None:
        runner._guest = coming.pop(0)
        found: Guest | None = runner._guest
        if coming:  # a suspend follows
            runner._guest = None
        return found

    runner._find_running = find_running
    made: MicrovmRunner = runner
    return made


async def test_a_command_that_meets_a_suspend_is_started_after_the_resume() -> None:
    frozen, resumed = Guest([GuestError("it is being suspended")]), Guest(["started"])
    assert await make_runner(frozen, resumed).open_command(Command()) == "started"
    assert len(frozen.asked) == len(resumed.asked) == 1


async def test_a_microvm_that_stays_suspended_runs_no_command() -> None:
    assert await make_runner(Guest([GuestError("frozen")]), None).open_command(Command()) is None


async def test_a_refusal_of_a_running_guest_is_passed_on() -> None:
    with pytest.raises(GuestError, match="64 run already"):
        await make_runner(Guest([GuestError("64 run already")])).open_command(Command())
