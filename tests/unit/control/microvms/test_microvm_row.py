"""A row says what has happened, whatever became of the database meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from emberbox import background
from emberbox.background import Background
from emberbox.control.microvms.row import MicrovmRow
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import HostError
from emberbox.model.states import MICROVM_TRANSITIONS, MicrovmState, find_way
from emberbox.store.database import Database
from emberbox.store.events import EventStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import metadata
from support.fake_machine import Script
from support.fake_world import ScriptedStore, new_microvm

PENDING, RUNNING, SUSPENDING, SUSPENDED, TERMINATING, TERMINATED = MicrovmState


class World:
    def __init__(self, path: Path, state: MicrovmState) -> None:
        self.database = Database(f"sqlite:///{path}/rows.db", metadata, durable=False)
        self.script = Script()
        self.store = ScriptedStore(self.database, self.script)
        microvm = new_microvm(state=state)
        self.id = microvm.id
        self.store.add([microvm], None)
        self.background = Background()
        self.row = MicrovmRow(self.store, microvm, self.background)
        self.script.begin()

    def fail(self, *numbers: int) -> None:
        """Let the accesses with these numbers fail."""
        self.script.begin(dict.fromkeys(numbers, self.script.fail))

    def state(self) -> MicrovmState:
        found = MicrovmStore(self.database).find(self.id)
        assert found is not None
        return found.state

    def events(self) -> list[tuple[MicrovmState, Actor]]:
        found = EventStore(self.database).list_page("000000000000", None, None, 100)
        return [(event.state, event.actor) for event in found][1:]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_INTERVAL_S", 0.001)


async def test_an_end_whose_first_writes_fail_is_written_in_the_end(tmp_path: Path) -> None:
    """The way from RUNNING to TERMINATED is over TERMINATING: it is gone as a whole, or not at all."""
    world, told = World(tmp_path, RUNNING), asyncio.Event()
    world.fail(0, 1)
    world.row.note(TERMINATED, reason="the VMM ended", then=told.set)
    assert world.state() is RUNNING
    assert not told.is_set()
    async with asyncio.timeout(10):
        await told.wait()
    assert world.state() is TERMINATED
    assert [state for state, _ in world.events()] == [TERMINATING, TERMINATED]


async def test_facts_are_written_in_their_order_each_with_its_cause(tmp_path: Path) -> None:
    world = World(tmp_path, RUNNING)
    world.fail(0, 1)
    with caused_by(Actor.IDLE_POLICY, "idle"):
        world.row.note(SUSPENDED)
    with caused_by(Actor.REQUEST, "a request"):
        world.row.note(RUNNING)
    world.row.catch_up()
    idle, request = Actor.IDLE_POLICY, Actor.REQUEST
    assert world.events() == [(SUSPENDING, idle), (SUSPENDED, idle), (RUNNING, request)]
    await world.background.close()


async def test_nothing_is_begun_while_a_fact_is_not_written(tmp_path: Path) -> None:
    world = World(tmp_path, SUSPENDED)
    world.fail(0, 1)
    world.row.note(RUNNING)
    with pytest.raises(HostError):
        world.row.begin(SUSPENDING)
    assert world.row.begin(SUSPENDING)
    await world.background.close()


async def test_what_is_being_terminated_stays_so(tmp_path: Path) -> None:
    """It ran on after a suspend that failed; a caller has asked for its end meanwhile."""
    world = World(tmp_path, SUSPENDING)
    assert world.row.begin(TERMINATING, "Success.")
    world.row.note(RUNNING)
    assert world.state() is TERMINATING
    world.row.note(TERMINATED, reason="Success.")
    assert world.state() is TERMINATED


@pytest.mark.parametrize("source", MicrovmState)
@pytest.mark.parametrize("target", MicrovmState)
def test_a_way_is_made_of_arrows_and_is_none_only_out_of_an_end(source: MicrovmState, target: MicrovmState) -> None:
    way = find_way(MICROVM_TRANSITIONS, source, target)
    if way is None:
        assert source in (TERMINATING, TERMINATED) or target is PENDING
        return
    assert (source, *way)[-1] is target
    for here, ahead in zip((source, *way), way, strict=False):
        assert ahead in MICROVM_TRANSITIONS[here]


@pytest.mark.parametrize("state", [RUNNING, SUSPENDED, TERMINATED])
async def test_a_fact_may_be_said_twice(tmp_path: Path, state: MicrovmState) -> None:
    world = World(tmp_path, SUSPENDING)
    world.row.note(state)
    events = world.events()
    world.row.note(state)
    assert world.state() is state
    assert world.events() == events


@pytest.mark.parametrize("state", MicrovmState)
@pytest.mark.parametrize("target", [RUNNING, SUSPENDED, TERMINATED])
async def test_its_state_is_known_without_the_database(
    tmp_path: Path, state: MicrovmState, target: MicrovmState
) -> None:
    """Also before that can be stored."""
    world = World(tmp_path, state)
    world.fail(0)
    world.row.note(target)
    known = world.row.known
    world.row.catch_up()
    assert world.state() is world.row.known is known
    await world.background.close()


async def test_who_was_replaced_moves_nothing_and_says_nothing(tmp_path: Path) -> None:
    """An earlier server's owner: its facts that wait, what it begins, and what it explains come too late."""
    world = World(tmp_path, SUSPENDED)
    world.fail(0)
    world.row.note(TERMINATED, reason="the VMM ended")
    (taken_over,) = world.store.take_over("local")
    later = MicrovmRow(world.store, taken_over, world.background)
    world.row.catch_up()
    assert not world.row.begin(TERMINATING)
    world.row.explain("wrong")
    assert world.state() is SUSPENDED
    later.note(RUNNING, new_incarnation=True)
    assert later.begin(SUSPENDING), "a resume has raised the generation that its owner holds"
    found = world.store.find(world.id)
    assert found is not None
    assert (found.state_reason, found.incarnation, found.generation) == (None, 2, 3)


async def test_a_host_takes_over_what_it_has_and_has_not_ended(tmp_path: Path) -> None:
    world = World(tmp_path, RUNNING)
    world.store.add([new_microvm(host="other"), new_microvm(state=TERMINATED)], None)
    assert [(found.id, found.generation) for found in world.store.take_over("local")] == [(world.id, 2)]
