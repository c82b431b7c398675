"""The operations on accounts, access keys and temporary credentials."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import ConflictError, NotFoundError, ValidationError
from emberbox.model.iam.access import (
    ADMIN_USER,
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
SESSION_S: Final = 43_200
ROLE_SESSION_S: Final = 3600
ROLE_SESSION_MAX_S: Final = 43_200


class AccountService:
    """Answers the operations.

    Args:
        identities: who is who.
        store: the rows.
        first_key_id: returns the id of the key in the credentials file.
    """

    def __init__(self, identities: Identities, store: AccessStore, first_key_id: Callable[[], str]) -> None:
        self._identities = identities
        self._store = store
        self._first_key_id = first_key_id

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {
            "CreateAccount": self.create_account,
            "ListAccounts": self.list_accounts,
            "CreateAccessKey": self.create_key,
            "ListAccessKeys": self.list_keys,
            "UpdateAccessKey": self.update_key,
            "DeleteAccessKey": self.delete_key,
            "GetSessionToken": self.get_session_token,
            "AssumeRole": self.assume_role,
        }

    async def create_account(self, _caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """CreateAccount: with its first user, who may do everything in it."""
        now = datetime.now(UTC)
        account_id = parameters.get("accountId") or f"{secrets.randbelow(10**12):012}"
        account = Account(account_id, parameters["accountName"], now)
        key = self._identities.new_key(account_id, ADMIN_USER, now)
        policy = AttachedPolicy(account_id, PrincipalKind.USER, ADMIN_USER, ADMIN_POLICY, FULL_ACCESS_DOCUMENT, now)
        if not self._store.add_account(account, key, policy):
            raise ConflictError(f"The account {account_id} exists already.")
        self._identities.reload()
        return {"account": show_account(account), "accessKey": self._show_new(key)}

    async def list_accounts(self, _caller: Caller, _parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListAccounts."""
        return {"items": [show_account(account) for account in self._identities.accounts()]}

    async def create_key(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """CreateAccessKey: the one answer that has the secret."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        key = self._identities.new_key(account_id, parameters["userName"], datetime.now(UTC))
        self._store.put_key(key)
        self._identities.reload()
        return {"accessKey": self._show_new(key)}

    def _show_new(self, key: AccessKey) -> dict[str, Any]:
        return {**show_key(key), "secretAccessKey": self._identities.secret_of(key)}

    async def list_keys(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListAccessKeys, oldest first."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        wanted = parameters.get("userName")
        keys = [key for key in self._identities.keys(account_id) if wanted in (None, key.user_name)]
        return {"items": [show_key(key) for key in keys]}

    async def update_key(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """UpdateAccessKey: Inactive keys, and the sessions that they started, sign nothing."""
        key = self._find_key(caller, parameters)
        status = KeyStatus(parameters["status"])
        if status is KeyStatus.INACTIVE:
            self._check_not_first(key)
        self._store.set_key_status(key.id, status)
        self._identities.reload()
        return {"accessKey": show_key(self._find_key(caller, parameters))}

    async def delete_key(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteAccessKey."""
        key = self._find_key(caller, parameters)
        self._check_not_first(key)
        self._store.remove_key(key.id)
        self._identities.reload()
        return {}

    def _find_key(self, caller: Caller, parameters: dict[str, Any]) -> AccessKey:
        name = parameters["accessKeyId"]
        key = self._identities.find_key(caller.account_id, name)
        if key is None:
            raise NotFoundError(f"Access key not found: {name}", resourceId=name, resourceType="AccessKey")
        return key

    def _check_not_first(self, key: AccessKey) -> None:
        """The server signs with the key of the credentials file itself, and the next start would bring it back."""
        if key.id == self._first_key_id():
            raise ConflictError(
                f"The access key {key.id} is the one in the server's credentials file. "
                "`emberbox keys rotate` puts a new one there; then this one can be disabled or deleted."
            )

    async def get_session_token(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetSessionToken: the caller's own rights, for a while."""
        key = self._own_key(caller, "GetSessionToken")
        duration_s = parameters.get("durationSeconds", SESSION_S)
        session = self._identities.start_session(
            key.account_id, PrincipalKind.USER, key.user_name, "", duration_s, by=key.id
        )
        return {"credentials": show_credentials(session)}

    async def assume_role(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """AssumeRole: the rights of a role of the caller's account."""
        key = self._own_key(caller, "AssumeRole")
        name, duration_s = parameters["roleName"], parameters.get("durationSeconds", ROLE_SESSION_S)
        if duration_s > ROLE_SESSION_MAX_S:
            raise ValidationError(f"durationSeconds {duration_s} exceeds the role's limit of {ROLE_SESSION_MAX_S}.")
        if self._identities.find_role(caller.account_id, name) is None:
            raise NotFoundError(f"Role not found: {name}", resourceId=name, resourceType="Role")
        session = self._identities.start_session(
            caller.account_id, PrincipalKind.ROLE, name, parameters["roleSessionName"], duration_s, by=key.id
        )
        return {"credentials": show_credentials(session)}

    def _own_key(self, caller: Caller, operation: str) -> AccessKey:
        key = self._identities.find_key(caller.account_id, caller.access_key_id)
        if key is None:
            raise ValidationError(f"{operation} cannot be called with temporary credentials; use an access key.")
        return key


def show_account(account: Account) -> dict[str, Any]:
    """Return an account as the API shows it."""
    return {"accountId": account.id, "accountName": account.name, "createdAt": account.created_at}


def show_key(key: AccessKey) -> dict[str, Any]:
    """Return a key as the API shows it, without its secret."""
    return {
        "accessKeyId": key.id,
        "accountId": key.account_id,
        "userName": key.user_name,
        "status": key.status,
        "createdAt": key.created_at,
    }


def show_credentials(session: TemporaryCredentials) -> dict[str, Any]:
    """Return temporary credentials as the API shows them."""
    return {
        "accessKeyId": session.access_key_id,
        "secretAccessKey": session.secret_access_key,
        "sessionToken": session.session_token,
        "expiration": session.expires_at,
    }
