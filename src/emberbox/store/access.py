"""Queries about accounts, access keys, policies, roles and quotas."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.iam.access import (
    AccessKey,
    Account,
    AttachedPolicy,
    KeyStatus,
    PrincipalKind,
    Role,
)
from emberbox.store.database import Database
from emberbox.store.managed_policies import ManagedPolicyStore
from emberbox.store.schema import access_keys, accounts, attached_policies, policies, quotas, roles


def _values(record: Any, table: Table) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in table.columns}


def _key(row: Row[Any]) -> AccessKey:
    values = dict(row._mapping)
    return AccessKey(**values | {"status": KeyStatus(values["status"])})


def _policy(row: Row[Any]) -> AttachedPolicy:
    values = dict(row._mapping)
    return AttachedPolicy(**values | {"kind": PrincipalKind(values["kind"])})


def _role(row: Row[Any]) -> Role:
    values = dict(row._mapping)
    prefixes = values["s3_prefixes"]
    return Role(**values | {"s3_prefixes": None if prefixes is None else tuple(prefixes)})


def _replace(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Store a row in place of the one with the same primary key."""
    same = [column == values[column.name] for column in table.primary_key.columns]
    connection.execute(delete(table).where(*same))
    connection.execute(insert(table).values(values))


class AccessStore:
    """Accounts with their keys, policies, roles and quotas in the database.

    Attributes:
        managed: the managed policies.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.managed = ManagedPolicyStore(database)

    def add_account(self, account: Account, *records: AccessKey | AttachedPolicy) -> bool:
        """Store an account with its first keys and policies; False when its id is taken."""
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(accounts).values(_values(account, accounts)))
                for record in records:
                    table = access_keys if isinstance(record, AccessKey) else policies
                    connection.execute(insert(table).values(_values(record, table)))
        except IntegrityError:
            return False
        return True

    def list_accounts(self) -> list[Account]:
        """Return all accounts, by id."""
        with self._database.reading() as connection:
            return [Account(**row._mapping) for row in connection.execute(select(accounts).order_by(accounts.c.id))]

    def put_key(self, key: AccessKey) -> None:
        """Store an access key, in place of the one of the same id."""
        with self._database.transaction() as connection:
            _replace(connection, access_keys, _values(key, access_keys))

    def list_keys(self) -> list[AccessKey]:
        """Return the access keys of all accounts, oldest first."""
        query = select(access_keys).order_by(access_keys.c.created_at, access_keys.c.id)
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(query)]

    def set_key_status(self, key_id: str, status: KeyStatus) -> None:
        """Let an access key sign requests, or not."""
        with self._database.transaction() as connection:
            connection.execute(update(access_keys).where(access_keys.c.id == key_id).values(status=status))

    def remove_key(self, key_id: str) -> None:
        """Remove an access key."""
        with self._database.transaction() as connection:
            connection.execute(delete(access_keys).where(access_keys.c.id == key_id))

    def put_policy(self, policy: AttachedPolicy) -> None:
        """Store a policy, in place of the one of the same name."""
        with self._database.transaction() as connection:
            _replace(connection, policies, _values(policy, policies))

    def list_policies(self) -> list[AttachedPolicy]:
        """Return the policies of all accounts, by account, principal and name."""
        query = select(policies).order_by(*policies.primary_key.columns)
        with self._database.reading() as connection:
            return [_policy(row) for row in connection.execute(query)]

    def remove_policy(self, policy: AttachedPolicy) -> None:
        """Remove a policy."""
        same = [column == getattr(policy, column.name) for column in policies.primary_key.columns]
        with self._database.transaction() as connection:
            connection.execute(delete(policies).where(*same))

    def put_role(self, role: Role, policy: AttachedPolicy | None) -> None:
        """Store a role in place of the one of the same name, with the policy that its holders have."""
        with self._database.transaction() as connection:
            self._remove_role(connection, role)
            connection.execute(insert(roles).values(_values(role, roles)))
            if policy is not None:
                connection.execute(insert(policies).values(_values(policy, policies)))

    def update_role(self, role: Role) -> None:
        """Store a role in place of the one of the same name; its policies stay."""
        with self._database.transaction() as connection:
            _replace(connection, roles, _values(role, roles))

    def list_roles(self) -> list[Role]:
        """Return the roles of all accounts, by account and name."""
        query = select(roles).order_by(*roles.primary_key.columns)
        with self._database.reading() as connection:
            return [_role(row) for row in connection.execute(query)]

    def remove_role(self, role: Role) -> None:
        """Remove a role with its policies."""
        with self._database.transaction() as connection:
            self._remove_role(connection, role)

    def _remove_role(self, connection: Connection, role: Role) -> None:
        connection.execute(delete(roles).where(roles.c.account_id == role.account_id, roles.c.name == role.name))
        connection.execute(
            delete(policies).where(
                policies.c.account_id == role.account_id,
                policies.c.kind == PrincipalKind.ROLE,
                policies.c.principal == role.name,
            )
        )
        attached = attached_policies.c
        connection.execute(
            delete(attached_policies).where(attached.account_id == role.account_id, attached.role_name == role.name)
        )

    def put_quota(self, account_id: str, code: str, value: int) -> None:
        """Store the value of a quota."""
        with self._database.transaction() as connection:
            _replace(connection, quotas, {"account_id": account_id, "code": code, "value": value})

    def remove_quota(self, account_id: str, code: str) -> None:
        """Give a quota its default back."""
        with self._database.transaction() as connection:
            connection.execute(delete(quotas).where(quotas.c.account_id == account_id, quotas.c.code == code))

    def list_quotas(self) -> dict[tuple[str, str], int]:
        """Return the values that were put, by account and code."""
        with self._database.reading() as connection:
            return {(row.account_id, row.code): row.value for row in connection.execute(select(quotas))}
