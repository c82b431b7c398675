"""Queries about sandboxes: each is a row beside its microVM's."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.sandboxes import ENDED, Sandbox, SandboxTerms
from emberbox.model.states import MicrovmState
from emberbox.store.database import Database
from emberbox.store.schema import microvms, sandboxes

_TERMS: Final = SandboxTerms.__slots__
_JOINED: Final = select(
    sandboxes, microvms.c.state, microvms.c.started_at, microvms.c.image_id, microvms.c.image_version
).join(microvms, microvms.c.id == sandboxes.c.id)
_BY_ID: Final = _JOINED.where(sandboxes.c.id == bindparam("key"))


def _sandbox(row: Row[Any]) -> Sandbox:
    values = row._mapping
    return Sandbox(
        id=row.id,
        account_id=row.account_id,
        terms=SandboxTerms(**{name: values[name] for name in _TERMS}),
        ends_at=row.ends_at,
        is_paused=row.is_paused,
        microvm_state=MicrovmState(row.state),
        started_at=row.started_at,
        image_id=row.image_id,
        image_version=row.image_version,
    )


class SandboxStore:
    """The rows of sandboxes.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, microvm_id: str, account_id: str, terms: SandboxTerms, ends_at: datetime) -> bool:
        """Store that a microVM is a sandbox; False when that is stored already."""
        values = {name: getattr(terms, name) for name in _TERMS}
        row = {"id": microvm_id, "account_id": account_id, "ends_at": ends_at, "is_paused": False, **values}
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(sandboxes).values(row))
        except IntegrityError:
            return False
        return True

    def find(self, sandbox_id: str) -> Sandbox | None:
        """Return a sandbox, also one that has ended; None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(_BY_ID, {"key": sandbox_id}).first()
        return None if row is None else _sandbox(row)

    def list_live(self, account_id: str | None = None) -> list[Sandbox]:
        """Return the sandboxes that have not ended, of an account or of all, newest first."""
        query = _JOINED.where(microvms.c.state.not_in(ENDED))
        if account_id is not None:
            query = query.where(sandboxes.c.account_id == account_id)
        query = query.order_by(microvms.c.started_at.desc(), microvms.c.id.desc())
        with self._database.reading() as connection:
            return [_sandbox(row) for row in connection.execute(query)]

    def find_named(self, account_id: str, name: str) -> Sandbox | None:
        """Return the sandbox of an account that has a name and has not ended; None where there is none."""
        query = _JOINED.where(sandboxes.c.account_id == account_id, sandboxes.c.name == name)
        query = query.where(microvms.c.state.not_in(ENDED)).order_by(microvms.c.started_at.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _sandbox(row)

    def set_terms(self, sandbox_id: str, terms: SandboxTerms, ends_at: datetime) -> None:
        """Change what a sandbox is to be, and move its end."""
        self._update(sandbox_id, ends_at=ends_at, **{name: getattr(terms, name) for name in _TERMS})

    def set_end(self, sandbox_id: str, ends_at: datetime, timeout_s: int) -> None:
        """Move a sandbox's end, and let it be one that is not paused."""
        self._update(sandbox_id, ends_at=ends_at, timeout_s=timeout_s, is_paused=False)

    def set_paused(self, sandbox_id: str, *, paused: bool, ends_at: datetime | None = None) -> None:
        """Say whether a sandbox is paused, and when it ends, if that moves with it."""
        self._update(sandbox_id, is_paused=paused, **({} if ends_at is None else {"ends_at": ends_at}))

    def _update(self, sandbox_id: str, **values: Any) -> None:  # Any: each column has a type of its own
        with self._database.transaction() as connection:
            connection.execute(update(sandboxes).where(sandboxes.c.id == sandbox_id).values(**values))

    def forget_gone(self) -> None:
        """Remove the rows of sandboxes whose microVMs are forgotten."""
        with self._database.transaction() as connection:
            connection.execute(delete(sandboxes).where(sandboxes.c.id.not_in(select(microvms.c.id))))
