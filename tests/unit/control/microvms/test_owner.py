"""An owner deals with one message at a time, in their order, whoever goes away; each is answered to all who wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from emberbox.control.microvms.decide import Wanted
from emberbox.control.microvms.owner import Owner
from emberbox.model.causes import Actor, caused_by, present_cause
from emberbox.model.errors import ConflictError, InternalError
from emberbox.model.states import MicrovmState
from support.fake_machine import given_up
from support.waiting import wait_for_async

RUNNING, SUSPENDED, TERMINATED = MicrovmState.RUNNING, MicrovmState.SUSPENDED, MicrovmState.TERMINATED


class Life:
    """A microVM that is nothing but a state, and what was done with it."""

    def __init__(self, state: MicrovmState = RUNNING) -> None:
        self.state = state
        self.done: list[str] = []
        self.settled: list[Exception] = []
        self.gate = asyncio.Event()
        self.owner = Owner("mvm", lambda: self.state, self.settle)

    async def settle(self, error: Exception) -> None:
        self.settled.append(error)

    def work(self, name: str, becomes: MicrovmState | None = None, *errors: Exception) -> Callable[[], Awaitable[str]]:
        """Return work that waits for the gate, raises the errors, one each time, and then does what it is to do."""
        coming = list(errors)

        async def do() -> str:
            self.done.append(f"{name} begins")
            await self.gate.wait()
            self.done.append(name)
            if coming:
                raise coming.pop(0)
            if becomes is not None:
                self.state = becomes
            return name

        return do


async def test_messages_are_dealt_with_one_at_a_time_in_their_order() -> None:
    life = Life()
    asked = [
        asyncio.create_task(life.owner.ask(Wanted.SUSPEND, life.work("suspend", SUSPENDED))),
        asyncio.create_task(life.owner.ask(Wanted.RESUME, life.work("resume", RUNNING))),
    ]
    await asyncio.sleep(0)
    assert life.owner.is_busy
    life.gate.set()
    assert await asyncio.gather(*asked) == ["suspend", "resume"]
    assert life.done == ["suspend begins", "suspend", "resume begins", "resume"]
    assert life.owner.is_quiet


async def test_what_was_told_is_in_line_at_once() -> None:
    """A server that starts lets requests in when every take-over is in line."""
    life = Life()
    life.owner.tell(Wanted.TAKE_OVER, life.work("take over"))
    assert life.owner.is_busy
    woken = asyncio.create_task(life.owner.ask(Wanted.WAKE, life.work("wake")))
    life.gate.set()
    await woken
    assert life.done == ["take over begins", "take over"]


async def test_a_caller_who_goes_away_stops_nothing() -> None:
    life = Life()
    asked = asyncio.create_task(life.owner.ask(Wanted.SUSPEND, life.work("suspend", SUSPENDED)))
    await asyncio.sleep(0.01)
    asked.cancel()
    assert isinstance(await given_up(asked), asyncio.CancelledError)
    life.gate.set()
    assert await life.owner.ask(Wanted.RESUME, life.work("resume", RUNNING)) == "resume"
    assert life.done == ["suspend begins", "suspend", "resume begins", "resume"]


async def test_what_is_wanted_by_many_is_done_once_and_all_get_the_answer() -> None:
    life, failure = Life(SUSPENDED), ConflictError("no")
    asked = [asyncio.create_task(life.owner.ask(Wanted.WAKE, life.work("wake", None, failure))) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    life.gate.set()
    assert [await given_up(each) for each in asked[1:]] == [failure, failure]
    assert life.done == ["wake begins", "wake"]


async def test_what_those_in_front_have_made_needless_is_not_done() -> None:
    life = Life()
    life.owner.tell(Wanted.END, life.work("end", TERMINATED))
    asked = asyncio.create_task(life.owner.ask(Wanted.SUSPEND, life.work("suspend")))
    refused = asyncio.create_task(life.owner.ask(Wanted.CHECKPOINT, life.work("checkpoint")))
    life.gate.set()
    assert await asked is None
    assert "is in state TERMINATED; wait until it has settled" in str(await given_up(refused))
    assert life.done == ["end begins", "end"]


async def test_what_fails_is_tried_again_after_a_pause_in_which_others_have_their_turn() -> None:
    life, failure = Life(SUSPENDED), InternalError("no room")
    life.gate.set()
    work = life.work("wake", None, failure, failure)
    woken = [asyncio.create_task(life.owner.ask(Wanted.WAKE, work, (0.3, 0.02))) for _ in range(2)]
    await wait_for_async("it has failed once", lambda: life.done)
    await life.owner.ask(Wanted.CHECKPOINT, life.work("checkpoint"))
    joined = asyncio.create_task(life.owner.ask(Wanted.WAKE, life.work("another")))
    assert await asyncio.gather(*woken, joined) == ["wake"] * 3
    wake, checkpoint = ["wake begins", "wake"], ["checkpoint begins", "checkpoint"]
    assert life.done == [*wake, *checkpoint, *wake, *wake]


async def test_an_error_is_not_tried_for_ever() -> None:
    life, failure = Life(SUSPENDED), InternalError("no room")
    life.gate.set()
    work = life.work("wake", None, *[failure] * 9)
    assert await given_up(life.owner.ask(Wanted.WAKE, work, (0.0, 0.0))) is failure
    assert life.done.count("wake") == 3
    assert life.owner.is_quiet


async def test_only_an_error_that_nobody_foresaw_is_settled() -> None:
    life, failure = Life(), OSError("broken")
    life.gate.set()
    assert await given_up(life.owner.ask(Wanted.CHECKPOINT, life.work("a", None, failure))) is failure
    await given_up(life.owner.ask(Wanted.CHECKPOINT, life.work("b", None, ConflictError("no"))))
    assert life.settled == [failure]


async def test_an_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    life.gate.set()
    with caplog.at_level(logging.ERROR):
        life.owner.tell(Wanted.END, life.work("end", None, ConflictError("no")))
        await life.owner.ask(Wanted.RESTRICT, life.work("restrict"))
    assert [record.getMessage() for record in caplog.records] == ["a change of mvm failed: no"]


async def test_a_message_keeps_who_set_it_off() -> None:
    life, causes = Life(), list[Actor]()

    async def note_cause() -> None:
        await life.gate.wait()
        causes.append(present_cause().actor)

    life.owner.tell(Wanted.END, life.work("first"))
    with caused_by(Actor.TIMER, "it is time"):
        life.owner.tell(Wanted.END, note_cause)
    with caused_by(Actor.GUEST, "it has ended"):
        life.owner.tell(Wanted.END, note_cause)
    life.gate.set()
    await life.owner.ask(Wanted.RESTRICT, life.work("last"))
    assert causes == [Actor.TIMER, Actor.GUEST]


async def test_work_whose_own_waiting_is_cancelled_takes_no_other_along() -> None:
    life = Life()

    async def wait_for_what_is_cancelled() -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.cancel()
        await ended

    first = asyncio.create_task(life.owner.ask(Wanted.CHECKPOINT, wait_for_what_is_cancelled))
    life.gate.set()
    await asyncio.sleep(0)
    assert await life.owner.ask(Wanted.RESTRICT, life.work("restrict")) == "restrict"
    assert isinstance(await given_up(first), asyncio.CancelledError)


async def test_a_close_leaves_nobody_waiting() -> None:
    life = Life(SUSPENDED)
    failing = life.work("wake", None, *[InternalError("no room")] * 9)
    life.gate.set()
    resting = asyncio.create_task(life.owner.ask(Wanted.WAKE, failing, (60.0,)))
    await wait_for_async("it is to be tried again", lambda: life.done and not life.owner.is_busy)
    life.gate.clear()
    under_way = asyncio.create_task(life.owner.ask(Wanted.CHECKPOINT, life.work("checkpoint")))
    waiting = asyncio.create_task(life.owner.ask(Wanted.RESTRICT, life.work("restrict")))
    await asyncio.sleep(0.01)
    await life.owner.close()
    for asked in (resting, under_way, waiting):
        assert isinstance(await given_up(asked), asyncio.CancelledError)
    assert life.owner.is_quiet
