"""Queries about microVMs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from emberbox.model.clock import Instant
from emberbox.model.records import ListedMicrovm, Microvm
from emberbox.model.states import MICROVM_TRANSITIONS, MicrovmState, find_way
from emberbox.store.changes import Change, Kind
from emberbox.store.client_tokens import ClientToken, insert_token
from emberbox.store.database import Database
from emberbox.store.events import insert_event
from emberbox.store.images import Place
from emberbox.store.launch_requests import read_request, write_request
from emberbox.store.schema import microvms

Fact = Instant | datetime | bool
"""What a column of a microVM's row can say beside its state."""

# Made once: building a query takes longer than running it, and these two are asked for every request.
_BY_ID: Final = select(microvms).where(microvms.c.id == bindparam("key"))
_BY_LABEL: Final = select(microvms).where(microvms.c.endpoint_label == bindparam("key"))

# Without the request, which is most of a row and of the work to read it.
_LISTED: Final = select(*(microvms.c[name] for name in ListedMicrovm._fields))


def _microvm(row: Row[Any]) -> Microvm:
    values = dict(row._mapping)
    return Microvm(**values | {"state": MicrovmState(values["state"]), "request": read_request(values["request"])})


def _listed(row: Row[Any]) -> ListedMicrovm:
    values = dict(row._mapping)
    return ListedMicrovm(**values | {"state": MicrovmState(values["state"])})


def _values(microvm: Microvm) -> dict[str, Any]:  # Any: each column has a type of its own
    values = {column.name: getattr(microvm, column.name) for column in microvms.columns}
    return values | {"request": write_request(microvm.request)}


def _find_state(connection: Connection, microvm_id: str, generation: int | None) -> tuple[str, MicrovmState] | None:
    """Return a microVM's account and state; nobody changes them until the transaction ends.

    Returns:
        None when there is none, or when it has a later generation than the one that is held.
    """
    query = select(microvms.c.account_id, microvms.c.state).where(microvms.c.id == microvm_id)
    if generation is not None:
        query = query.where(microvms.c.generation == generation)
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else (row.account_id, MicrovmState(row.state))


def _move(
    connection: Connection, found: tuple[str, MicrovmState], microvm_id: str, state: MicrovmState,
    reason: str | None, duration_s: float | None,
) -> None:  # fmt: skip
    values: dict[str, str] = {"state": state} | ({} if reason is None else {"state_reason": reason})
    connection.execute(update(microvms).where(microvms.c.id == microvm_id).values(**values))
    account_id, before = found
    insert_event(connection, account_id, microvm_id, before, state, datetime.now(UTC), reason, duration_s)


def _ends_in(column: Column[str], end: str) -> ColumnElement[bool]:
    """Say whether a text ends so. Not with LIKE, which takes A for a in SQLite."""
    return func.substr(column, func.length(column) - len(end) + 1) == end


class MicrovmStore:
    """MicroVMs in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: Iterable[Microvm], token: ClientToken | None) -> bool:
        """Store new microVMs, all or none; False when the client token was used meanwhile."""
        values = [_values(microvm) for microvm in new]
        try:
            with self._database.transaction(*(Change(Kind.MICROVM, row["id"]) for row in values)) as connection:
                if token is not None:
                    insert_token(connection, token)
                connection.execute(insert(microvms), values)
                for row in values:
                    now = row["started_at"]
                    insert_event(connection, row["account_id"], row["id"], None, row["state"], now, None, None)
        except IntegrityError:
            return False
        return True

    def find(self, microvm_id: str) -> Microvm | None:
        """Return one microVM."""
        with self._database.reading() as connection:
            row = connection.execute(_BY_ID, {"key": microvm_id}).first()
        return None if row is None else _microvm(row)

    def find_by_label(self, label: str) -> Microvm | None:
        """Return the microVM of an endpoint's first label."""
        with self._database.reading() as connection:
            row = connection.execute(_BY_LABEL, {"key": label}).first()
        return None if row is None else _microvm(row)

    def list_page(
        self,
        account_id: str,
        limit: int,
        after: Place | None,
        image_name: str | None = None,
        image_version: str | None = None,
    ) -> list[ListedMicrovm]:
        """Return microVMs, newest first, after a place; those of an image too that is gone."""
        query = _LISTED.where(microvms.c.account_id == account_id)
        if image_name is not None:
            query = query.where(_ends_in(microvms.c.image_arn, f":{image_name}"))
        if image_version is not None:
            query = query.where(microvms.c.image_version == image_version)
        if after is not None:
            moment, last = after
            older = microvms.c.started_at < moment
            query = query.where(or_(older, and_(microvms.c.started_at == moment, microvms.c.id < last)))
        query = query.order_by(microvms.c.started_at.desc(), microvms.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_listed(row) for row in connection.execute(query)]

    def list_of_account(self, account_id: str) -> list[Microvm]:
        """Return all microVMs of an account that are not forgotten."""
        with self._database.reading() as connection:
            query = select(microvms).where(microvms.c.account_id == account_id)
            return [_microvm(row) for row in connection.execute(query)]

    def list_live(self) -> list[Microvm]:
        """Return all microVMs that are not TERMINATED."""
        query = select(microvms).where(microvms.c.state != MicrovmState.TERMINATED)
        with self._database.reading() as connection:
            return [_microvm(row) for row in connection.execute(query)]

    def count_live(self, image_id: str, image_version: str | None = None) -> int:
        """Return how many microVMs of an image, or of one version, are not TERMINATED."""
        query = select(func.count()).select_from(microvms)
        query = query.where(microvms.c.image_id == image_id, microvms.c.state != MicrovmState.TERMINATED)
        if image_version is not None:
            query = query.where(microvms.c.image_version == image_version)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def take_over(self, host: str) -> list[Microvm]:
        """Give all microVMs of a host that are not TERMINATED a new generation, and return them.

        Whoever held them until now, such as a thread of an earlier server, moves them no more.

        Raises:
            HostError: that cannot be stored.
        """
        owned = and_(microvms.c.host == host, microvms.c.state != MicrovmState.TERMINATED)
        with self._database.transaction() as connection:
            connection.execute(update(microvms).where(owned).values(generation=microvms.c.generation + 1))
            return [_microvm(row) for row in connection.execute(select(microvms).where(owned))]

    def change_state(
        self,
        microvm_id: str,
        state: MicrovmState,
        *,
        generation: int | None = None,
        reason: str | None = None,
        duration_s: float | None = None,
    ) -> bool:
        """Move a microVM to a state, and store the event; False when the transition table does not allow it.

        Args:
            microvm_id: which.
            state: the new state.
            generation: what the caller holds: with a later one in the row nothing is changed, and False is returned.
            reason: the new stateReason.
            duration_s: how long the change took, where that is not the time in the state before.
        """
        with self._database.transaction(Change(Kind.MICROVM, microvm_id)) as connection:
            found = _find_state(connection, microvm_id, generation)
            if found is None or state not in MICROVM_TRANSITIONS[found[1]]:
                return False
            _move(connection, found, microvm_id, state, reason, duration_s)
        return True

    def settle(
        self,
        microvm_id: str,
        state: MicrovmState,
        *,
        generation: int | None = None,
        reason: str | None = None,
        duration_s: float | None = None,
        new_incarnation: bool = False,
        **facts: Fact,
    ) -> bool:
        """Say what is so already, by the way that the transition table has from where the row is: all or nothing.

        It may be said twice. An event is stored for each state on the way.

        Args:
            microvm_id: which.
            state: its state.
            generation: what the caller holds, as for `change_state`.
            reason: the new stateReason.
            duration_s: how long the change took, where that is not the time in the state before.
            new_incarnation: it was started once more: incarnation and generation rise by one.
            facts: further columns: `suspended`, `terminated_at`, `own_base`.

        Returns:
            False when no way leads there: it is being terminated, or has been.
        """
        with self._database.transaction(Change(Kind.MICROVM, microvm_id)) as connection:
            found = _find_state(connection, microvm_id, generation)
            way = None if found is None else find_way(MICROVM_TRANSITIONS, found[1], state)
            if found is None or way is None:
                return False
            for place in way:
                told = place == state
                _move(connection, found, microvm_id, place, reason if told else None, duration_s if told else None)
                found = (found[0], place)
            values: dict[str, Any] = dict(facts)  # Any: what the columns take, an expression among it
            if new_incarnation and way:
                values["incarnation"] = microvms.c.incarnation + 1
                values["generation"] = microvms.c.generation + 1
            if values:
                connection.execute(update(microvms).where(microvms.c.id == microvm_id).values(**values))
        return True

    def explain(self, microvm_id: str, reason: str | None, *, generation: int | None = None) -> None:
        """Say in a microVM's `stateReason` why it is as it is; None takes that back.

        With a later generation in the row than the one that is held, nothing is changed.
        """
        held = microvms.c.id == microvm_id
        if generation is not None:
            held = and_(held, microvms.c.generation == generation)
        with self._database.transaction(Change(Kind.MICROVM, microvm_id)) as connection:
            connection.execute(update(microvms).where(held).values(state_reason=reason))

    def note_event(self, microvm_id: str, reason: str) -> None:
        """Store an event of a microVM that changes nothing of its state."""
        query = select(microvms.c.account_id, microvms.c.state).where(microvms.c.id == microvm_id)
        with self._database.transaction(Change(Kind.MICROVM, microvm_id)) as connection:
            row = connection.execute(query).first()
            if row is not None:
                state, now = MicrovmState(row.state), datetime.now(UTC)
                insert_event(connection, row.account_id, microvm_id, state, state, now, reason, None)

    def forget_terminated(self, before: datetime) -> int:
        """Remove microVMs that were terminated before a moment; return how many."""
        statement = delete(microvms).where(
            microvms.c.state == MicrovmState.TERMINATED, microvms.c.terminated_at < before
        )
        with self._database.transaction() as connection:
            removed = connection.execute(statement).rowcount
        if removed:
            self._database.changes.tell(Change(Kind.MICROVM, None))
        return removed
