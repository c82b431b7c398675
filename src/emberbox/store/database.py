"""The database: one engine, short transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import CreateColumn

from emberbox.model.errors import HostError
from emberbox.store.changes import Change, Changes


class Database:
    """An open database.

    Args:
        url: a SQLAlchemy URL (`sqlite:////path/to/file`, `postgresql+psycopg://…`).
        metadata: the tables; they, and columns of theirs that have a default, are made when missing.
        durable: a transaction that has ended survives a power cut; without it, only the death of this process.
        changes: told what transactions have changed; by default one that nobody else knows.

    Attributes:
        changes: see there.
    """

    def __init__(self, url: str, metadata: MetaData, *, durable: bool = True, changes: Changes | None = None) -> None:
        self.changes = changes or Changes()
        self._engine: Engine = create_engine(url)
        self._reader: Engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
        self._watching: Connection | None = None
        if self._engine.dialect.name == "sqlite":
            for engine in (self._engine, self._reader):
                event.listen(engine, "connect", partial(_configure_sqlite, "FULL" if durable else "NORMAL"))
            event.listen(self._engine, "begin", _begin_immediately)
        were_there = inspect(self._engine).get_table_names()
        metadata.create_all(self._engine)
        _add_columns(self._engine, [table for table in metadata.sorted_tables if table.name in were_there])

    @contextlib.contextmanager
    def transaction(self, *changed: Change) -> Iterator[Connection]:
        """Run a block in a transaction: all of it is stored, or nothing.

        Args:
            changed: what listeners are told when it has ended well.

        Raises:
            HostError: the database cannot be read or written, such as on a full disk.
            IntegrityError: a key is taken; for the stores of this package.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise HostError(f"the database cannot be used: {error.orig}") from error
        self.changes.tell(*changed)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run queries that change nothing: each sees the rows of its own moment, and waits for no writer.

        Raises:
            HostError: the database cannot be read.
        """
        try:
            with self._reader.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise HostError(f"the database cannot be used: {error.orig}") from error

    def change_counter(self) -> int | None:
        """Return a number that is another one when somebody else has changed rows; None where nothing tells.

        Not to be called by two threads at once.

        Raises:
            HostError: the database cannot be read.
        """
        if self._engine.dialect.name != "sqlite":
            return None
        try:
            if self._watching is None:
                self._watching = self._reader.connect()  # the number is one connection's own
            return int(self._watching.exec_driver_sql("PRAGMA data_version").scalar_one())
        except DBAPIError as error:
            raise HostError(f"the database cannot be used: {error.orig}") from error

    def close(self) -> None:
        """Close every connection."""
        if self._watching is not None:
            self._watching.close()
        self._engine.dispose()
        self._reader.dispose()


def _add_columns(engine: Engine, tables: Sequence[Table]) -> None:
    """Add to tables the columns that an earlier release did not know, those of which old rows have a value by default.

    Raises:
        HostError: a column without one is missing: the database is another release's.
    """
    found = inspect(engine)
    for table in tables:
        known = {row["name"] for row in found.get_columns(table.name)}
        missing = [column for column in table.columns if column.name not in known]
        if any(column.server_default is None for column in missing):
            raise HostError(
                f"the database was made by another release of Emberbox: its table {table.name} lacks "
                f"{', '.join(sorted(column.name for column in missing))}; start with a new EMBERBOX_HOME, "
                "or with that release"
            )
        with engine.begin() as connection:
            for column in missing:
                described = CreateColumn(column).compile(dialect=engine.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {described}")


def _configure_sqlite(synchronous: str, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions late; we begin them ourselves
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediately(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
