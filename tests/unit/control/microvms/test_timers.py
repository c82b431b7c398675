"""Deadlines: when they are due, moved, cancelled; and what ten thousand of them cost."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvloop

from emberbox.control.microvms.timers import Timers
from support.waiting import wait_for_async

LONG_S = 3600.0


async def until(fired: list[str], count: int) -> None:
    await wait_for_async(f"{count} deadlines are over", lambda: len(fired) >= count)


async def test_deadlines_come_in_their_order_and_once() -> None:
    timers, fired = Timers(), list[str]()
    for name, delay_s in (("c", 0.9), ("a", 0.3), ("b", 0.6), ("at once", -5.0)):
        timers.set(name, delay_s, lambda name=name: fired.append(name))
    assert fired == []
    await until(fired, 4)
    assert fired == ["at once", "a", "b", "c"]
    assert len(timers) == 0


async def test_a_deadline_can_be_moved_in_both_directions() -> None:
    timers, fired = Timers(), list[str]()
    timers.set("later", 0.3, lambda: fired.append("too early"))
    timers.set("later", 0.9, lambda: fired.append("later"))
    timers.set("sooner", LONG_S, lambda: fired.append("too late"))
    timers.set("sooner", 0.5, lambda: fired.append("sooner"))
    await until(fired, 2)
    assert fired == ["sooner", "later"]
    assert len(timers) == 0


async def test_a_cancelled_deadline_never_comes() -> None:
    timers, fired = Timers(), list[str]()
    timers.set("gone", 0.01, lambda: fired.append("gone"))
    timers.set("moved", 0.01, lambda: fired.append("moved"))
    timers.set("moved", 0.02, lambda: fired.append("moved"))
    timers.set("kept", 0.04, lambda: fired.append("kept"))
    timers.cancel("gone")
    timers.cancel("moved")
    timers.cancel("unknown")
    await until(fired, 1)
    assert fired == ["kept"]


async def test_a_key_can_be_used_again_after_it_was_cancelled() -> None:
    timers, fired = Timers(), list[str]()
    timers.set("key", 0.01, lambda: fired.append("first"))
    timers.cancel("key")
    timers.set("key", 0.03, lambda: fired.append("second"))
    await until(fired, 1)
    assert fired == ["second"]


async def test_an_action_may_set_its_own_deadline_again() -> None:
    timers, fired = Timers(), list[str]()

    def again() -> None:
        fired.append("again")
        if len(fired) < 3:
            timers.set("key", 0.005, again)

    timers.set("key", 0, again)
    await until(fired, 3)
    assert len(timers) == 0


async def test_an_action_that_fails_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    timers, fired = Timers(), list[str]()
    timers.set("bad", 0, lambda: 1 // 0)
    timers.set("good", 0.01, lambda: fired.append("good"))
    await until(fired, 1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_the_deadlines_of_ten_thousand_microvms_do_not_pile_up() -> None:
    timers, fired = Timers(), list[str]()
    for number in range(10_000):
        timers.set((number, "idle"), LONG_S, lambda: fired.append("idle"))
    for _ in range(20):  # as activity does
        for number in range(10_000):
            timers.set((number, "idle"), LONG_S, lambda: fired.append("idle"))
    assert len(timers._heap) == 10_000
    for number in range(10_000):
        timers.cancel((number, "idle"))
    assert len(timers) == 0
    assert len(timers._heap) <= 1000
    timers.set("last", 0.01, lambda: fired.append("last"))
    await until(fired, 1)
    assert fired == ["last"]


async def test_nothing_comes_after_the_end() -> None:
    timers, fired = Timers(), list[str]()
    timers.set("key", 0.01, lambda: fired.append("key"))
    timers.close()
    await asyncio.sleep(0.03)
    assert fired == []


def test_deadlines_of_the_past_and_the_future_come_on_the_servers_event_loop() -> None:
    """Uvloop's handles are not asyncio's."""
    fired: list[str] = []

    async def run() -> None:
        timers = Timers()
        for key, delay_s in (("later", 0.02), ("overdue", -5), ("now", 0)):
            timers.set(key, delay_s, lambda key=key: fired.append(key))  # type: ignore[misc]
        timers.set("moved", 0, lambda: fired.append("moved"))
        async with asyncio.timeout(5):
            while len(fired) < 4:  # noqa: ASYNC110  # timers are what is tested
                await asyncio.sleep(0.005)

    uvloop.run(run())
    assert sorted(fired) == ["later", "moved", "now", "overdue"]
    assert fired[-1] == "later"
