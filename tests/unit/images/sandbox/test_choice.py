"""Where builds are done when the machine is asked."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.images.sandbox.base import SandboxPlan
from emberbox.images.sandbox.choice import ChoosingBuilder, find_sandbox_obstacle
from emberbox.model.errors import BuildError, HostError
from emberbox.process import OnLine


class Builder:
    """Counts what it is asked for."""

    def __init__(self, lack: str = "") -> None:
        self.asked: list[str] = []
        self._lack = lack

    async def prepare(self, _say: object) -> None:
        self.asked.append("prepare")
        if self._lack:
            raise HostError(self._lack)

    async def build(self, _work: object) -> Any:
        self.asked.append("build")


@pytest.mark.parametrize(
    ("obstacle", "lack", "chosen"),
    [("", "", "sandbox"), ("no runsc", "", "host"), ("", "the builder cannot be made", "host")],
)
async def test_it_is_found_out_once(obstacle: str, lack: str, chosen: str, caplog: pytest.LogCaptureFixture) -> None:
    """What it comes to, and why, is said where the host builds."""
    builders, asked = {"sandbox": Builder(lack), "host": Builder()}, list[str]()

    async def find() -> str:
        asked.append("probe")
        return obstacle

    builder = ChoosingBuilder(builders["sandbox"], builders["host"], find)
    work: Any = SimpleNamespace(say=print)
    with caplog.at_level(logging.INFO):
        await builder.prepare(print)
        await builder.build(work)
    assert asked == ["probe"]
    assert builders[chosen].asked[-2:] == ["prepare", "build"]
    assert "build" not in builders["host" if chosen == "sandbox" else "sandbox"].asked
    (said,) = [record for record in caplog.records if record.name.endswith("choice")]
    assert ("as trusted as this server" in said.getMessage()) == (chosen == "host")
    assert (obstacle or lack) in said.getMessage()


async def test_all_who_wait_for_it_are_told_what_is_being_done() -> None:
    """A server finds it out when it starts, for nobody; the first build must not be silent meanwhile."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def find() -> str:
        begun.set()
        await go_on.wait()
        return ""

    builder, heard = ChoosingBuilder(Builder(), Builder(), find), (list[str](), list[str]())
    tasks = [asyncio.ensure_future(builder.prepare(heard[0].append))]
    await begun.wait()
    tasks.append(asyncio.ensure_future(builder.prepare(heard[1].append)))
    await asyncio.sleep(0)
    assert heard[0] == heard[1] == ["Trying a sandbox for builds (gVisor is fetched the first time) ..."]
    go_on.set()
    await asyncio.gather(*tasks)


class Trial:
    """A sandbox whose run ends in a given way."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.plan: SandboxPlan | None = None

    async def run(self, plan: SandboxPlan, _on_line: OnLine) -> None:
        self.plan = plan
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, ""),
        (HostError("it cannot be fetched"), "it cannot be fetched"),
        (BuildError("CONTAINER_BUILD_FAILED", "it did not finish within 30 s"), "30 s"),
        (FileNotFoundError("gone"), "gone"),
    ],
)
async def test_a_trial_says_what_went_wrong(error: Exception | None, said: str) -> None:
    """And leaves no directory."""
    trial = Trial(error)
    found = await find_sandbox_obstacle(trial)
    assert (said in found) if said else not found
    assert trial.plan is not None
    assert trial.plan.network is None
    assert not trial.plan.directory.exists()
