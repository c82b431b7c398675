"""Parameters that are stored under names, as rows."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.stacks.stored import StoredParameter
from emberbox.store.database import Database
from emberbox.store.schema import stored_parameters


class StoredParameterStore:
    """Stored parameters of all accounts in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, account_id: str, name: str) -> StoredParameter | None:
        """Return a parameter."""
        column = stored_parameters.c
        query = select(stored_parameters).where(column.account_id == account_id, column.name == name)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else StoredParameter(**row._mapping)

    def count(self, account_id: str) -> int:
        """Return how many an account has."""
        query = select(stored_parameters.c.name).where(stored_parameters.c.account_id == account_id)
        with self._database.reading() as connection:
            return len(connection.execute(query).all())

    def add(self, made: StoredParameter) -> bool:
        """Store a parameter; False when there is one of the name."""
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(stored_parameters).values(**asdict(made)))
        except IntegrityError:
            return False
        return True

    def change(self, changed: StoredParameter) -> None:
        """Store a parameter in place of the one of its name."""
        column = stored_parameters.c
        where = (column.account_id == changed.account_id, column.name == changed.name)
        with self._database.transaction() as connection:
            connection.execute(update(stored_parameters).where(*where).values(**asdict(changed)))

    def remove(self, account_id: str, name: str) -> None:
        """Remove a parameter."""
        column = stored_parameters.c
        where = (column.account_id == account_id, column.name == name)
        with self._database.transaction() as connection:
            connection.execute(delete(stored_parameters).where(*where))
