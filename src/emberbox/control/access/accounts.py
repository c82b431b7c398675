"""Accounts, access keys and temporary credentials."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from emberbox.control.access.identities import Identities
from emberbox.control.access.sessions import trusts
from emberbox.model.caller import Caller
from emberbox.model.errors import AccessDeniedError, ConflictError, NotFoundError, ValidationError
from emberbox.model.iam.access import (
    ADMIN_USER,
    ROLE_SESSION_MAX_S,
    AccessKey,
    Account,
    AttachedPolicy,
    KeyStatus,
    PrincipalKind,
    TemporaryCredentials,
)
from emberbox.model.iam.policies import FULL_ACCESS_DOCUMENT
from emberbox.store.access import AccessStore

ADMIN_POLICY: Final = "AdministratorAccess"


@dataclass(frozen=True, slots=True)
class AssumeRole:
    """Asks for the rights of a role of the caller's account.

    Args:
        role_name: which.
        session_name: who uses it, for the audit trail.
        duration_s: seconds that the credentials live.
    """

    role_name: str
    session_name: str
    duration_s: int


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its secret in clear: nobody is told it again."""

    key: AccessKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that was just made, and its first user's key."""

    account: Account
    first: NewKey


class AccountService:
    """Makes, lists and changes accounts and their keys; lends rights for a while.

    Args:
        identities: who is who.
        store: the rows.
        first_key_id: returns the id of the key in the credentials file.
    """

    def __init__(self, identities: Identities, store: AccessStore, first_key_id: Callable[[], str]) -> None:
        self._identities = identities
        self._store = store
        self._first_key_id = first_key_id

    def create_account(self, name: str, account_id: str | None) -> NewAccount:
        """Make an account with its first user, who may do everything in it.

        Args:
            name: for people.
            account_id: 12 digits; None for any.

        Raises:
            ConflictError: the id is taken.
        """
        now = datetime.now(UTC)
        account_id = account_id or f"{secrets.randbelow(10**12):012}"
        account = Account(account_id, name, now)
        key = self._identities.new_key(account_id, ADMIN_USER, now)
        policy = AttachedPolicy(account_id, PrincipalKind.USER, ADMIN_USER, ADMIN_POLICY, FULL_ACCESS_DOCUMENT, now)
        if not self._store.add_account(account, key, policy):
            raise ConflictError(f"The account {account_id} exists already.")
        self._identities.reload()
        return NewAccount(account, self._opened(key))

    def list_accounts(self) -> list[Account]:
        """Return all accounts, by id."""
        return self._identities.accounts()

    def create_key(self, account_id: str, user_name: str) -> NewKey:
        """Make a key of a user; a user is there as soon as something has its name.

        Raises:
            NotFoundError: there is no such account.
        """
        key = self._identities.new_key(self._identities.check_account(account_id), user_name, datetime.now(UTC))
        self._store.put_key(key)
        self._identities.reload()
        return self._opened(key)

    def _opened(self, key: AccessKey) -> NewKey:
        return NewKey(key, self._identities.secret_of(key))

    def list_keys(self, account_id: str, user_name: str | None) -> list[AccessKey]:
        """Return the keys of an account, of one user or of all, oldest first.

        Raises:
            NotFoundError: there is no such account.
        """
        keys = self._identities.keys(self._identities.check_account(account_id))
        return [key for key in keys if user_name in (None, key.user_name)]

    def update_key(self, caller: Caller, key_id: str, status: KeyStatus) -> AccessKey:
        """Change a key's status: inactive keys, and the sessions that they started, sign nothing.

        Raises:
            NotFoundError: there is no such key that the caller's account may know of.
            ConflictError: it is the key of the credentials file, and would become inactive.
        """
        key = self._find_key(caller, key_id)
        if status is KeyStatus.INACTIVE:
            self._check_not_first(key)
        self._store.set_key_status(key.id, status)
        self._identities.reload()
        return self._find_key(caller, key_id)

    def delete_key(self, caller: Caller, key_id: str) -> None:
        """Remove a key.

        Raises:
            NotFoundError, ConflictError: see `update_key`.
        """
        key = self._find_key(caller, key_id)
        self._check_not_first(key)
        self._store.remove_key(key.id)
        self._identities.reload()

    def _find_key(self, caller: Caller, key_id: str) -> AccessKey:
        key = self._identities.find_key(caller.account_id, key_id)
        if key is None:
            raise NotFoundError(f"Access key not found: {key_id}", resourceId=key_id, resourceType="AccessKey")
        return key

    def _check_not_first(self, key: AccessKey) -> None:
        """The server signs with the key of the credentials file itself, and the next start would bring it back."""
        if key.id == self._first_key_id():
            raise ConflictError(
                f"The access key {key.id} is the one in the server's credentials file. "
                "`emberbox keys rotate` puts a new one there; then this one can be disabled or deleted."
            )

    def get_session_token(self, caller: Caller, duration_s: int) -> TemporaryCredentials:
        """Lend the caller's own rights for some seconds.

        Raises:
            ValidationError: the caller has temporary credentials itself.
        """
        key = self._own_key(caller, "GetSessionToken")
        return self._identities.start_session(
            key.account_id, PrincipalKind.USER, key.user_name, "", duration_s, by=key.id
        )

    def assume_role(self, caller: Caller, asked: AssumeRole) -> TemporaryCredentials:
        """Lend the rights of a role.

        Raises:
            ValidationError: the caller has temporary credentials itself, or it is for too long.
            NotFoundError: there is no such role.
            AccessDeniedError: it does not trust the caller.
        """
        key = self._own_key(caller, "AssumeRole")
        name, duration_s = asked.role_name, asked.duration_s
        if duration_s > ROLE_SESSION_MAX_S:
            raise ValidationError(f"durationSeconds {duration_s} exceeds the role's limit of {ROLE_SESSION_MAX_S}.")
        role = self._identities.find_role(caller.account_id, name)
        if role is None:
            raise NotFoundError(f"Role not found: {name}", resourceId=name, resourceType="Role")
        if not trusts(role, caller, asked.session_name):
            raise AccessDeniedError(f"The trust policy of the role {name} does not name you.")
        return self._identities.start_session(
            caller.account_id, PrincipalKind.ROLE, name, asked.session_name, duration_s, by=key.id
        )

    def _own_key(self, caller: Caller, operation: str) -> AccessKey:
        key = self._identities.find_key(caller.account_id, caller.access_key_id)
        if key is None:
            raise ValidationError(f"{operation} cannot be called with temporary credentials; use an access key.")
        return key
