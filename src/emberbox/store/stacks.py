"""Stacks, their events and change sets, as rows.

Most of a stack is one JSON document: it is read and written as a whole, by the one task that works on it. The template,
which changes seldom and is large, is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.stacks.records import (
    ChangeSet,
    PlannedChange,
    Stack,
    StackEvent,
    outputs_from_json,
    resources_from_json,
    shape_from_json,
    to_json,
    work_from_json,
)
from emberbox.model.stacks.states import ChangeSetStatus, ExecutionStatus, StackStatus
from emberbox.store.database import Database
from emberbox.store.schema import change_sets, stack_events, stacks

_COLUMNS = ("id", "account_id", "name", "status", "created_at", "updated_at", "deleted_at")
_SET_COLUMNS = ("id", "account_id", "stack_id", "name", "created_at")


class StackStore:
    """Stacks of all accounts in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, stack: Stack, events: Sequence[StackEvent]) -> bool:
        """Store a new stack; False when its account has a live one of the name."""
        try:
            with self._database.transaction() as connection:
                values = {**_values(stack), "template": stack.shape.template}
                connection.execute(insert(stacks).values(**values))
                _add_events(connection, events)
        except IntegrityError:
            return False
        return True

    def save(self, stack: Stack, events: Sequence[StackEvent] = (), *, with_template: bool = False) -> None:
        """Store a stack as it is now, with what has happened; its template only where that is another one."""
        values = _values(stack)
        if with_template:
            values["template"] = stack.shape.template
        with self._database.transaction() as connection:
            connection.execute(update(stacks).where(stacks.c.id == stack.id).values(**values))
            _add_events(connection, events)

    def begin(self, stack: Stack, found: StackStatus, events: Sequence[StackEvent]) -> bool:
        """Store that work on a stack begins; False when its status is not the one that was found any more."""
        values = {**_values(stack), "template": stack.shape.template}
        where = (stacks.c.id == stack.id, stacks.c.status == found)
        with self._database.transaction() as connection:
            if not connection.execute(update(stacks).where(*where).values(**values)).rowcount:
                return False
            _add_events(connection, events)
        return True

    def find(self, account_id: str, name_or_id: str) -> Stack | None:
        """Return a live stack by name, or any by its ARN."""
        named = stacks.c.id == name_or_id if name_or_id.startswith("arn:") else stacks.c.live_name == name_or_id
        query = select(stacks).where(stacks.c.account_id == account_id, named)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _stack(row)

    def list_stacks(self, account_id: str, *, deleted_too: bool = False) -> list[Stack]:
        """Return the stacks of an account, newest first."""
        query = select(stacks).where(stacks.c.account_id == account_id)
        if not deleted_too:
            query = query.where(stacks.c.live_name.is_not(None))
        with self._database.reading() as connection:
            return [_stack(row) for row in connection.execute(query.order_by(stacks.c.created_at.desc(), stacks.c.id))]

    def list_unfinished(self) -> list[Stack]:
        """Return the stacks of all accounts that a server was working on."""
        query = select(stacks).where(stacks.c.live_name.is_not(None)).order_by(stacks.c.created_at)
        with self._database.reading() as connection:
            found = [_stack(row) for row in connection.execute(query)]
        return [stack for stack in found if stack.status.is_under_way]

    def list_events(self, stack_id: str, before: int | None, limit: int) -> list[tuple[int, StackEvent]]:
        """Return events with their numbers, newest first; with `before`, those before it."""
        query = select(stack_events).where(stack_events.c.stack_id == stack_id)
        if before is not None:
            query = query.where(stack_events.c.number < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(stack_events.c.number.desc()).limit(limit))
            return [(row.number, StackEvent(**row.content, happened_at=row.happened_at)) for row in rows]

    def forget_deleted(self, before: datetime) -> None:
        """Remove what is left of stacks that were deleted before a moment."""
        old = select(stacks.c.id).where(stacks.c.deleted_at < before)
        with self._database.transaction() as connection:
            for table in (stack_events, change_sets):
                connection.execute(delete(table).where(table.c.stack_id.in_(old)))
            connection.execute(delete(stacks).where(stacks.c.deleted_at < before))

    def remove(self, stack: Stack) -> None:
        """Remove a stack that never was more than a change set's wish."""
        with self._database.transaction() as connection:
            connection.execute(delete(stack_events).where(stack_events.c.stack_id == stack.id))
            connection.execute(delete(stacks).where(stacks.c.id == stack.id))

    # --- change sets

    def add_change_set(self, made: ChangeSet) -> bool:
        """Store a change set; False when its stack has one of the name."""
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(change_sets).values(**_set_values(made)))
        except IntegrityError:
            return False
        return True

    def save_change_set(self, changed: ChangeSet) -> None:
        """Store a change set as it is now."""
        where = change_sets.c.id == changed.id
        with self._database.transaction() as connection:
            connection.execute(update(change_sets).where(where).values(**_set_values(changed)))

    def list_change_sets(self, stack_id: str) -> list[ChangeSet]:
        """Return the change sets of a stack, oldest first."""
        query = select(change_sets).where(change_sets.c.stack_id == stack_id)
        with self._database.reading() as connection:
            return [_change_set(row) for row in connection.execute(query.order_by(change_sets.c.created_at))]

    def find_change_set(self, account_id: str, change_set_id: str) -> ChangeSet | None:
        """Return a change set by its ARN."""
        query = select(change_sets).where(change_sets.c.account_id == account_id, change_sets.c.id == change_set_id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _change_set(row)

    def remove_change_sets(self, ids: Sequence[str]) -> None:
        """Remove change sets."""
        with self._database.transaction() as connection:
            connection.execute(delete(change_sets).where(change_sets.c.id.in_(list(ids))))


def _values(stack: Stack) -> dict[str, Any]:
    stored = to_json(replace(stack, shape=replace(stack.shape, template="")))
    values = {name: getattr(stack, name) for name in _COLUMNS}
    content = {name: value for name, value in stored.items() if name not in _COLUMNS}
    return {**values, "content": content, "live_name": stack.name if stack.deleted_at is None else None}


def _stack(row: Row[Any]) -> Stack:
    content = dict(row.content)
    known = {
        "status": StackStatus(row.status),
        "shape": replace(shape_from_json(content["shape"]), template=row.template),
        "resources": resources_from_json(content["resources"]),
        "outputs": outputs_from_json(content["outputs"]),
        "imports": tuple(content["imports"]),
        "work": work_from_json(content["work"]),
    }
    columns = {name: getattr(row, name) for name in _COLUMNS}
    return Stack(**{**columns, **content, **known})


def _set_values(made: ChangeSet) -> dict[str, Any]:
    stored = to_json(replace(made, shape=replace(made.shape, template="")))
    values = {name: getattr(made, name) for name in _SET_COLUMNS}
    content = {name: value for name, value in stored.items() if name not in _SET_COLUMNS}
    return {**values, "content": content, "template": made.shape.template}


def _change_set(row: Row[Any]) -> ChangeSet:
    content = dict(row.content)
    known = {
        "status": ChangeSetStatus(content["status"]),
        "execution": ExecutionStatus(content["execution"]),
        "shape": replace(shape_from_json(content["shape"]), template=row.template),
        "changes": tuple(PlannedChange(**{**one, "names": tuple(one["names"])}) for one in content["changes"]),
    }
    columns = {name: getattr(row, name) for name in _SET_COLUMNS}
    return ChangeSet(**{**columns, **content, **known})


def _add_events(connection: Connection, events: Sequence[StackEvent]) -> None:
    for event in events:
        content = asdict(event)
        happened_at = content.pop("happened_at")
        values = {"stack_id": event.stack_id, "content": content, "happened_at": happened_at}
        connection.execute(insert(stack_events).values(**values))
