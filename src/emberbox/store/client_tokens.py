"""Idempotency: what an earlier request with the same client token made."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from emberbox.store.database import Database
from emberbox.store.schema import client_tokens


@dataclass(frozen=True, slots=True)
class ClientToken:
    """A request's client token, with a digest of its parameters and the id of what it made."""

    account_id: str
    operation: str
    token: str
    parameters: str
    resource_id: str


def insert_token(connection: Connection, token: ClientToken) -> None:
    """Store a token in the transaction that makes its resource.

    Raises:
        sqlalchemy.exc.IntegrityError: it was used meanwhile.
    """
    values = {name: getattr(token, name) for name in ClientToken.__slots__}
    connection.execute(insert(client_tokens).values(values))


class ClientTokenStore:
    """Client tokens in the database, per account and operation, until what they made is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, account_id: str, operation: str, token: str) -> ClientToken | None:
        """Return what an earlier request with this token made."""
        query = select(client_tokens).where(
            client_tokens.c.account_id == account_id,
            client_tokens.c.operation == operation,
            client_tokens.c.token == token,
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else ClientToken(**row._mapping)

    def forget(self, token: ClientToken) -> None:
        """Let a token be used anew."""
        statement = delete(client_tokens).where(
            client_tokens.c.account_id == token.account_id,
            client_tokens.c.operation == token.operation,
            client_tokens.c.token == token.token,
        )
        with self._database.transaction() as connection:
            connection.execute(statement)
