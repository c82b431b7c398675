"""Who can sign requests, and what they may do: accounts, users, keys and sessions, kept in memory.

The rows are the truth; they are read again after every change, so that a request needs no query. Temporary
credentials have no row: their session token is their record, sealed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from emberbox.control.access.vault import Vault
from emberbox.model.errors import NotFoundError
from emberbox.model.iam.access import (
    ADMIN_USER,
    AccessKey,
    Account,
    Attachment,
    Credential,
    KeyStatus,
    ManagedPolicy,
    PrincipalKind,
    Role,
    SessionTag,
    TemporaryCredentials,
    new_key_id,
    new_secret,
)
from emberbox.model.iam.aws_policies import AWS_POLICIES
from emberbox.model.iam.policies import FULL_ACCESS, Policy, parse_policy
from emberbox.store.access import AccessStore

_read_policy = lru_cache(maxsize=4096)(parse_policy)  # most are as they were at the last reload
_Owner = tuple[str, PrincipalKind, str]


class _Session(NamedTuple):
    """What a session token holds, sealed: moments in seconds since 1970, `by` the key that asked, or empty.

    What has a default was not in the tokens of earlier releases.
    """

    access_key_id: str
    secret: str
    account_id: str
    kind: str
    name: str
    session_name: str
    expires: float
    by: str
    issued: float | None = None
    tags: Mapping[str, SessionTag] = MappingProxyType({})
    via: str = ""


class Forwarded(NamedTuple):
    """A service acts with somebody's rights.

    `issued` is when the session began that has asked, in seconds since 1970; None where it was an access key.
    """

    service: str
    issued: float | None


class Identities:
    """Finds credentials, accounts and roles.

    Args:
        store: the rows.
        vault: opens stored secrets, seals session tokens.
        operator_account: the account of the first key.
    """

    def __init__(self, store: AccessStore, vault: Vault, operator_account: str) -> None:
        self._store = store
        self._vault = vault
        self.operator_account = operator_account
        self.reload()

    def reload(self) -> None:
        """Read the rows again; called after every change of them."""
        self._accounts = {account.id: account for account in self._store.list_accounts()}
        self._keys = {key.id: key for key in self._store.list_keys()}
        self._roles = {(role.account_id, role.name): role for role in self._store.list_roles()}
        policies: dict[_Owner, list[Policy]] = defaultdict(list)
        for row in self._store.list_policies():
            policies[row.account_id, row.kind, row.principal].append(_read_policy(row.document))
        self._managed = {policy.arn: policy for policy in self._store.managed.list_all()}
        self._attachments = self._store.managed.list_attachments()
        for attachment in self._attachments:
            owner = (attachment.account_id, PrincipalKind.ROLE, attachment.role_name)
            document = self.managed_document(attachment.policy_arn)
            if document is not None:
                policies[owner].append(_read_policy(document))
        self._policies = {owner: tuple(found) for owner, found in policies.items()}
        self._credentials: dict[str, Credential] = {}

    def adopt(self, access_key_id: str, secret_access_key: str, now: datetime) -> None:
        """Make sure that the key of the credentials file is the operator's, and that its account is there."""
        if self.operator_account not in self._accounts:
            self._store.add_account(Account(self.operator_account, "operator", now))
        known = self._keys.get(access_key_id)
        if known is None or self._vault.try_open(known.secret) != secret_access_key:
            key = self.new_key(self.operator_account, ADMIN_USER, now, access_key_id, secret_access_key)
            self._store.put_key(key)
        self.reload()

    def new_key(
        self, account_id: str, user_name: str, now: datetime, key_id: str | None = None, secret: str | None = None
    ) -> AccessKey:
        """Return a key that is not stored yet; with a random id and secret where none are given."""
        sealed = self._vault.seal(secret or new_secret())
        return AccessKey(key_id or new_key_id("AKIA"), account_id, user_name, sealed, KeyStatus.ACTIVE, now)

    def secret_of(self, key: AccessKey) -> str:
        """Return the secret of a key, in clear."""
        return str(self._vault.open(key.secret))

    # --- for each request

    def find_credential(self, access_key_id: str, token: str | None) -> Credential | None:
        """Return the credential of a key; None when there is none, or it may not sign (now)."""
        if token is not None:
            return self._open_session(access_key_id, token)
        found = self._credentials.get(access_key_id)
        if found is None:
            key = self._keys.get(access_key_id)
            if key is None or key.status is not KeyStatus.ACTIVE:
                return None
            policies = self.policies_of(key.account_id, PrincipalKind.USER, key.user_name)
            secret = self.secret_of(key)
            found = Credential(key.id, secret, key.account_id, name=key.user_name, policies=policies)
            self._credentials[access_key_id] = found
        return found

    def policies_of(self, account_id: str, kind: PrincipalKind, name: str) -> tuple[Policy, ...]:
        """Return what a user or a role may do; the operator's first user always may do everything."""
        if self.is_operators_admin(account_id, kind, name):
            return (FULL_ACCESS,)
        return self._policies.get((account_id, kind, name), ())

    def is_operators_admin(self, account_id: str, kind: PrincipalKind, name: str) -> bool:
        """Say whether somebody is the user that the first key belongs to, who cannot be locked out."""
        return (account_id, kind, name) == (self.operator_account, PrincipalKind.USER, ADMIN_USER)

    # --- sessions

    def start_session(
        self, account_id: str, kind: PrincipalKind, name: str, session_name: str, duration_s: int, by: str = "",
        *, tags: Mapping[str, SessionTag] = MappingProxyType({}), forwarded: Forwarded | None = None,
    ) -> TemporaryCredentials:  # fmt: skip
        """Return temporary credentials.

        Args:
            account_id: the account.
            kind: of whom they are.
            name: the user's or the role's.
            session_name: who uses a role.
            duration_s: seconds that they live.
            by: the access key that asked; they end with it.
            tags: of a role's session.
            forwarded: a service of AWS uses them on behalf of who asked it.
        """
        issued = datetime.now(UTC)
        expires = issued + timedelta(seconds=duration_s)
        key_id, secret = new_key_id("ASIA"), new_secret()
        content = _Session(
            key_id, secret, account_id, kind, name, session_name, expires.timestamp(), by,
            issued.timestamp() if forwarded is None else forwarded.issued, dict(tags),
            "" if forwarded is None else forwarded.service,
        )  # fmt: skip
        return TemporaryCredentials(key_id, secret, self._vault.seal(content), issued, expires)

    def _open_session(self, access_key_id: str, token: str) -> Credential | None:
        content = self._vault.try_open(token)
        if content is None or content[0] != access_key_id:
            return None
        session = _Session(*content)
        asked = self._keys.get(session.by)
        if session.by and (asked is None or asked.status is not KeyStatus.ACTIVE):
            return None
        kind = PrincipalKind(session.kind)
        role = self._roles.get((session.account_id, session.name)) if kind is PrincipalKind.ROLE else None
        if kind is PrincipalKind.ROLE and role is None:
            return None
        return Credential(
            access_key_id,
            session.secret,
            session.account_id,
            session_token=token,
            expires_at=datetime.fromtimestamp(session.expires, UTC),
            kind=kind,
            name=session.name,
            session_name=session.session_name,
            policies=self.policies_of(session.account_id, kind, session.name),
            issued_by=session.by,
            role=role,
            session_tags={name: SessionTag(*tag) for name, tag in session.tags.items()},
            issued_at=None if session.issued is None else datetime.fromtimestamp(session.issued, UTC),
            via=session.via,
        )

    # --- what administration asks

    def check_account(self, account_id: str) -> str:
        """Return the id of an account that exists.

        Raises:
            NotFoundError: it does not.
        """
        if account_id not in self._accounts:
            raise NotFoundError(f"Account not found: {account_id}", resourceId=account_id, resourceType="Account")
        return account_id

    def accounts(self) -> list[Account]:
        """Return all accounts, by id."""
        return list(self._accounts.values())

    def keys(self, account_id: str) -> list[AccessKey]:
        """Return the keys of an account, oldest first."""
        return [key for key in self._keys.values() if key.account_id == account_id]

    def find_key(self, account_id: str, access_key_id: str) -> AccessKey | None:
        """Return a key of an account; to the operator, of any account."""
        key = self._keys.get(access_key_id)
        return key if key and account_id in (key.account_id, self.operator_account) else None

    def roles(self, account_id: str) -> list[Role]:
        """Return the roles of an account, by name."""
        return [role for role in self._roles.values() if role.account_id == account_id]

    def find_role(self, account_id: str, name: str) -> Role | None:
        """Return a role."""
        return self._roles.get((account_id, name))

    # --- managed policies

    def managed_document(self, arn: str) -> str | None:
        """Return the document of a managed policy, of an account or of AWS's own; None where there is none."""
        own = self._managed.get(arn)
        return own.document if own is not None else AWS_POLICIES.get(arn)

    def managed_policies(self, account_id: str) -> list[ManagedPolicy]:
        """Return the managed policies of an account, by name."""
        return [policy for policy in self._managed.values() if policy.account_id == account_id]

    def attachments(self, account_id: str) -> list[Attachment]:
        """Return what is attached to roles of an account, by role and policy."""
        return [attachment for attachment in self._attachments if attachment.account_id == account_id]
