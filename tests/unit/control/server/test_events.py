"""Events: every change of state with its cause, its reason and its duration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emberbox.control.server.events import EventService
from emberbox.edges.aws.operations.events import handlers
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor, caused_by, present_cause
from emberbox.model.clock import Instant
from emberbox.model.launch_requests import LaunchRequest
from emberbox.model.records import Event, Microvm
from emberbox.model.states import MicrovmState
from emberbox.store.database import Database
from emberbox.store.events import EventStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import metadata

ACCOUNT = "000000000000"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'db'}", metadata)
    yield database
    database.close()


@pytest.fixture
def microvms(database: Database) -> MicrovmStore:
    return MicrovmStore(database)


@pytest.fixture
def events(database: Database) -> EventStore:
    return EventStore(database)


def make(number: int, started_at: datetime | None = None, account: str = ACCOUNT) -> Microvm:
    return Microvm(
        id=f"microvm-{number}", account_id=account, endpoint_label=f"label-{number}", image_id="i", image_arn="arn",
        image_version="1.0", state=MicrovmState.PENDING, state_reason=None,
        request=LaunchRequest("", (), ()), incarnation=1,
        started_at=started_at or datetime.now(UTC), terminated_at=None, started=Instant.now(),
    )  # fmt: skip


def brief(event: Event) -> tuple[Any, ...]:
    return event.from_state, event.state, event.actor, event.reason


def test_every_change_is_an_event_with_who_set_it_off_and_why(microvms: MicrovmStore, events: EventStore) -> None:
    with caused_by(Actor.CALLER, "RunMicrovm"):
        microvms.add([make(1)], None)
        microvms.change_state("microvm-1", MicrovmState.RUNNING)
    with caused_by(Actor.VMM, "it died"):
        microvms.change_state("microvm-1", MicrovmState.TERMINATING)
        microvms.change_state("microvm-1", MicrovmState.TERMINATED, reason="QEMU was killed")
    assert [brief(event) for event in events.list_page(ACCOUNT, "microvm-1", None, 10)] == [
        (None, MicrovmState.PENDING, Actor.CALLER, "RunMicrovm"),
        (MicrovmState.PENDING, MicrovmState.RUNNING, Actor.CALLER, "RunMicrovm"),
        (MicrovmState.RUNNING, MicrovmState.TERMINATING, Actor.VMM, "it died"),
        (MicrovmState.TERMINATING, MicrovmState.TERMINATED, Actor.VMM, "QEMU was killed"),
    ]


def test_what_did_not_change_is_no_event(microvms: MicrovmStore, events: EventStore) -> None:
    microvms.add([make(1)], None)
    assert not microvms.change_state("microvm-1", MicrovmState.SUSPENDED)
    assert not microvms.change_state("microvm-2", MicrovmState.RUNNING)
    assert len(events.list_page(ACCOUNT, None, None, 10)) == 1


def test_a_change_took_as_long_as_the_state_under_way_or_as_it_is_told(
    microvms: MicrovmStore, events: EventStore
) -> None:
    microvms.add([make(1, datetime.now(UTC) - timedelta(seconds=90))], None)
    microvms.change_state("microvm-1", MicrovmState.RUNNING)
    microvms.change_state("microvm-1", MicrovmState.SUSPENDING)
    microvms.change_state("microvm-1", MicrovmState.SUSPENDED)
    microvms.change_state("microvm-1", MicrovmState.RUNNING, duration_s=0.25)
    durations = [event.duration_ms for event in events.list_page(ACCOUNT, None, None, 10)]
    assert durations[0] == 0
    assert durations[1] >= 90_000
    assert durations[2] == 0
    assert durations[4] == 250


def test_events_are_read_on_from_one_that_is_known(microvms: MicrovmStore, events: EventStore) -> None:
    microvms.add([make(number) for number in range(5)], None)
    newest = events.list_page(ACCOUNT, None, None, 2)
    assert [event.microvm_id for event in newest] == ["microvm-3", "microvm-4"]
    assert events.list_page(ACCOUNT, None, newest[-1].id, 10) == []
    first = events.list_page(ACCOUNT, None, 0, 2)
    assert [event.microvm_id for event in first] == ["microvm-0", "microvm-1"]
    assert [event.microvm_id for event in events.list_page(ACCOUNT, None, first[-1].id, 2)] == [
        "microvm-2",
        "microvm-3",
    ]


def test_another_accounts_events_are_not_seen(microvms: MicrovmStore, events: EventStore) -> None:
    microvms.add([make(1), make(2, account="111111111111")], None)
    service = EventService(events, 60)
    caller = Caller(ACCOUNT, "AKIA", "us-east-1", "id", "")
    list_events = handlers(service)["ListEvents"]
    items = asyncio.run(list_events(caller, {}))["items"]
    assert [item["microvmId"] for item in items] == ["microvm-1"]
    assert asyncio.run(list_events(caller, {"microvmIdentifier": "microvm-2"}))["items"] == []


def test_old_events_are_forgotten(microvms: MicrovmStore, events: EventStore) -> None:
    microvms.add([make(1, datetime.now(UTC) - timedelta(seconds=120)), make(2)], None)
    EventService(events, 60).forget_old()
    assert [event.microvm_id for event in events.list_page(ACCOUNT, None, None, 10)] == ["microvm-2"]


async def test_tasks_inherit_the_cause_of_who_started_them() -> None:
    async def look() -> Actor:
        return present_cause().actor

    with caused_by(Actor.IDLE_POLICY, "idle"):
        task = asyncio.create_task(look())
    assert await task is Actor.IDLE_POLICY
    assert present_cause().actor is Actor.SERVER


def test_a_microvm_of_two_servers_keeps_its_events(database: Database, events: EventStore) -> None:
    """Recovery changes states without anybody who asked."""
    store = MicrovmStore(database)
    store.add([replace(make(1), state=MicrovmState.PENDING)], None)
    store.change_state("microvm-1", MicrovmState.TERMINATING)
    assert events.list_page(ACCOUNT, None, None, 1)[0].actor is Actor.SERVER
