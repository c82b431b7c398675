"""The idle policy's clock."""

from __future__ import annotations

import pytest

from emberbox.control.microvms import idle
from emberbox.control.microvms.idle import IdleTimer
from emberbox.control.microvms.timers import Timers
from emberbox.model.launch_requests import IdlePolicy
from support.waiting import wait_for_async


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "REPORT_DELAY_S", 0.05)


def make(timers: Timers, over: list[str], max_idle_s: int | None = None) -> IdleTimer:
    policy = None if max_idle_s is None else IdlePolicy(max_idle_s, suspended_s=60, resumes_itself=True)
    return IdleTimer(timers, "mvm", policy, lambda: over.append("idle"))


async def test_it_runs_out_when_nothing_happens() -> None:
    timers, over = Timers(), list[str]()
    timer = make(timers, over, max_idle_s=0)
    timer.start()
    assert not timer.is_over
    await wait_for_async("it has run out", lambda: over)
    assert timer.is_over


async def test_bytes_after_the_end_take_it_back() -> None:
    timers, over = Timers(), list[str]()
    timer = make(timers, over, max_idle_s=0)
    timer.start()
    await wait_for_async("it has run out", lambda: over)
    timer.restart()
    assert not timer.is_over


async def test_bytes_while_it_does_not_run_start_nothing() -> None:
    timers, over = Timers(), list[str]()
    timer = make(timers, over, max_idle_s=60)
    timer.restart()
    assert len(timers) == 0
    timer.start()
    assert len(timers) == 1
    timer.stop()
    timer.restart()
    assert len(timers) == 0
    assert not timer.is_over


async def test_without_a_policy_it_never_runs_out() -> None:
    timers, over = Timers(), list[str]()
    timer = make(timers, over)
    timer.start()
    timer.restart()
    assert len(timers) == 0
