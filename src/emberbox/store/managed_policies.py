"""Queries about managed policies and the roles that they are attached to."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from emberbox.model.iam.access import Attachment, ManagedPolicy
from emberbox.store.database import Database
from emberbox.store.schema import attached_policies, managed_policies


class ManagedPolicyStore:
    """Managed policies of all accounts in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, policy: ManagedPolicy) -> bool:
        """Store a policy; False when its account has one of the name."""
        values = {column.name: getattr(policy, column.name) for column in managed_policies.columns}
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(managed_policies).values(values))
        except IntegrityError:
            return False
        return True

    def list_all(self) -> list[ManagedPolicy]:
        """Return the policies of all accounts, by account and name."""
        query = select(managed_policies).order_by(*managed_policies.primary_key.columns)
        with self._database.reading() as connection:
            return [ManagedPolicy(**row._mapping) for row in connection.execute(query)]

    def remove(self, policy: ManagedPolicy) -> None:
        """Remove a policy."""
        column = managed_policies.c
        where = (column.account_id == policy.account_id, column.name == policy.name)
        with self._database.transaction() as connection:
            connection.execute(delete(managed_policies).where(*where))

    def attach(self, attachment: Attachment) -> None:
        """Give a role a policy; repeats are harmless."""
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(attached_policies).values(asdict(attachment)))
        except IntegrityError:
            return

    def detach(self, attachment: Attachment) -> None:
        """Take a policy from a role."""
        same = [attached_policies.c[name] == value for name, value in asdict(attachment).items()]
        with self._database.transaction() as connection:
            connection.execute(delete(attached_policies).where(*same))

    def list_attachments(self) -> list[Attachment]:
        """Return what is attached, by account, role and policy."""
        query = select(attached_policies).order_by(*attached_policies.primary_key.columns)
        with self._database.reading() as connection:
            return [Attachment(**row._mapping) for row in connection.execute(query)]
