"""Events: every change of a microVM's state, stored in the transaction that makes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from emberbox.model.causes import Actor, present_cause
from emberbox.model.records import Event
from emberbox.model.states import MicrovmState
from emberbox.store.database import Database
from emberbox.store.schema import events

_UNDER_WAY = (MicrovmState.PENDING, MicrovmState.SUSPENDING, MicrovmState.TERMINATING)
"""States in which something is done: leaving one took as long as the microVM was in it."""


def _event(row: Row[Any]) -> Event:
    values = dict(row._mapping)
    before = values["from_state"]
    known = {
        "actor": Actor(values["actor"]),
        "state": MicrovmState(values["state"]),
        "from_state": None if before is None else MicrovmState(before),
    }
    return Event(**values | known)


def insert_event(
    connection: Connection,
    account_id: str,
    microvm_id: str,
    before: MicrovmState | None,
    state: MicrovmState,
    now: datetime,
    reason: str | None,
    duration_s: float | None,
) -> None:
    """Store an event with the present cause, in the transaction of the change.

    Args:
        connection: the transaction.
        account_id: whose it is.
        microvm_id: what changed.
        before: its state until now; None for a new one.
        state: its state from now on.
        now: the present.
        reason: why, where that is more than what set it off.
        duration_s: how long it took; by default the time in `before` where that is a state under way, else 0.
    """
    cause = present_cause()
    if duration_s is None:
        duration_s = _time_in(connection, microvm_id, now) if before in _UNDER_WAY else 0.0
    values = {
        "account_id": account_id,
        "microvm_id": microvm_id,
        "from_state": before,
        "state": state,
        "actor": cause.actor,
        "reason": reason or cause.reason,
        "duration_ms": round(max(duration_s, 0) * 1000),
        "happened_at": now,
    }
    connection.execute(insert(events).values(**values))


def _time_in(connection: Connection, microvm_id: str, now: datetime) -> float:
    """Return for how many seconds a microVM has been in its state."""
    query = select(events.c.happened_at).where(events.c.microvm_id == microvm_id).order_by(events.c.id.desc()).limit(1)
    since = connection.execute(query).scalar()
    return 0.0 if since is None else float((now - since).total_seconds())


class EventStore:
    """Events in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_page(self, account_id: str, microvm_id: str | None, after: int | None, limit: int) -> list[Event]:
        """Return events of an account, oldest first.

        Args:
            account_id: the account.
            microvm_id: only of this microVM.
            after: only those after the event of this id; None for the newest ones.
            limit: how many at most.
        """
        query = select(events).where(events.c.account_id == account_id)
        if microvm_id is not None:
            query = query.where(events.c.microvm_id == microvm_id)
        if after is None:
            query = query.order_by(events.c.id.desc())
        else:
            query = query.where(events.c.id > after).order_by(events.c.id)
        with self._database.transaction() as connection:
            found = [_event(row) for row in connection.execute(query.limit(limit))]
        return sorted(found, key=lambda event: event.id)

    def list_since(self, account_id: str, moment: datetime) -> list[Event]:
        """Return all events of an account since a moment, oldest first."""
        query = select(events).where(events.c.account_id == account_id, events.c.happened_at >= moment)
        with self._database.reading() as connection:
            return [_event(row) for row in connection.execute(query.order_by(events.c.id))]

    def forget(self, before: datetime) -> int:
        """Remove events from before a moment; return how many."""
        with self._database.transaction() as connection:
            return connection.execute(delete(events).where(events.c.happened_at < before)).rowcount
