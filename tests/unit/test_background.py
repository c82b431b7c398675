"""Work that nobody stops half-way, and none of whose errors is lost."""

from __future__ import annotations

import asyncio
import threading

import pytest

from emberbox import background
from emberbox.background import Background, every, in_thread, until_written
from emberbox.model.errors import HostError


async def test_work_comes_to_its_end_though_who_waits_is_cancelled() -> None:
    going, done, owner = asyncio.Event(), asyncio.Event(), Background()

    async def work() -> None:
        await going.wait()
        done.set()

    waiting = asyncio.create_task(owner.see_through(work(), "work"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    going.set()
    await owner.close(patience_s=10)
    assert done.is_set()


async def test_who_waits_gets_what_the_work_returns_or_raises() -> None:
    owner = Background()

    async def work(result: int) -> int:
        if result < 0:
            raise HostError("no")
        return result

    assert await owner.see_through(work(7), "work") == 7
    with pytest.raises(HostError):
        await owner.see_through(work(-1), "work")


async def test_an_error_that_nobody_waits_for_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    owner, going = Background(), asyncio.Event()

    async def work() -> None:
        await going.wait()
        raise ZeroDivisionError

    waiting = asyncio.create_task(owner.see_through(work(), "a change of microvm-1"))
    owner.start(work(), "the build of app")
    await asyncio.sleep(0)
    waiting.cancel()
    going.set()
    await owner.close(patience_s=10)
    assert {record.getMessage() for record in caplog.records} == {
        "a change of microvm-1 failed",
        "the build of app failed",
    }
    assert all(record.exc_info for record in caplog.records)


async def test_what_takes_too_long_is_cancelled_at_the_end() -> None:
    owner = Background()
    task = owner.start(asyncio.sleep(3600), "a long one")
    await owner.close(patience_s=0.01)
    assert task.cancelled()


async def test_a_thread_is_waited_for_also_by_who_is_cancelled_again_and_again() -> None:
    going, done = threading.Event(), threading.Event()

    def work() -> None:
        going.wait(30)
        done.set()

    waiting = asyncio.create_task(in_thread(work))
    for _ in range(3):
        await asyncio.sleep(0.01)
        waiting.cancel()
        assert not waiting.done()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    going.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done.is_set()


async def test_a_write_arrives_when_the_database_can_be_written_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RETRY_INTERVAL_S", 0.001)
    failures = [HostError("full")] * 3

    def write() -> str:
        if failures:
            raise failures.pop()
        return "written"

    assert await until_written(write, "the row") == "written"
    assert len(caplog.records) == 1  # it says so once


async def test_one_thing_that_fails_keeps_no_other_from_being_done_nor_from_being_done_again() -> None:
    done: list[str] = []
    enough = asyncio.Event()

    async def full() -> None:
        done.append("full")
        raise HostError("the disk is full")

    async def broken() -> None:
        done.append("broken")
        raise KeyError("what nobody thought of")

    async def sound() -> None:
        done.append("sound")
        if len(done) >= 6:
            enough.set()

    owner = Background()
    owner.start(every(0.001, full, broken, sound), "housekeeping")
    async with asyncio.timeout(10):
        await enough.wait()
    await owner.close()
    assert done[:6] == ["full", "broken", "sound"] * 2
