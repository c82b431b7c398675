"""Roles: names that the operator gives a meaning.

A build role says what of S3 a build may read. An execution role says which credentials its holder gets: the ones that
the operator put, or temporary ones of this server with the role's policy.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from emberbox.control.access.identities import Identities
from emberbox.control.access.vault import Vault
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.iam.access import AttachedPolicy, OwnCredentials, PrincipalKind, Role, TemporaryCredentials
from emberbox.model.iam.policies import parse_policy
from emberbox.model.iam.trust import parse_trust
from emberbox.store.access import AccessStore

log = logging.getLogger(__name__)

CREDENTIALS_S: Final = 3300
"""Credentials in a microVM live for 55 minutes (dossier, section 9.2)."""

_POLICY: Final = "role"
_MANY: Final = 1000


class Roles:
    """What the roles that requests name stand for.

    Args:
        identities: keeps the roles.
        vault: opens the operator's credentials.
        strict: an undefined role is an error.
    """

    def __init__(self, identities: Identities, vault: Vault, strict: bool) -> None:
        self._identities = identities
        self._vault = vault
        self._strict = strict
        self._told: set[str] = set()

    def check_defined(self, account_id: str, arn: str, refusal: str | None = None) -> None:
        """Look at a role that a request passes.

        Args:
            account_id: the account of who passes it.
            arn: of the role.
            refusal: what the sender is told when it is not defined; the server's log then has what to do.

        Raises:
            ValidationError: it is not defined, and roles are strict; or it does not trust Lambda.
        """
        role = self._find_usable(account_id, arn)
        if role is not None:
            if role.trust_document and not parse_trust(role.trust_document).names_lambda():
                raise ValidationError(
                    f"The role {arn} cannot be assumed by Lambda: its trust policy does not name lambda.amazonaws.com."
                )
            return
        if self._strict:
            told = (
                f"The role {arn} cannot be assumed by Lambda: it is not defined. The operator defines it with "
                f"`emberbox roles put {arn.rpartition('/')[2]}`."
            )
            if refusal is not None:
                log.warning("a request was refused: %s", told)
            raise ValidationError(refusal or told)
        if arn not in self._told and len(self._told) < _MANY:
            self._told.add(arn)
            log.warning(
                "the role %s is not defined: builds with it read its account's buckets (strict_roles is off)", arn
            )

    def readable_prefixes(self, account_id: str, arn: str) -> tuple[str, ...] | None:
        """Return the `s3://` prefixes that a build with a role may read; None for all of its account's buckets."""
        role = self._find_usable(account_id, arn)
        if role is None:
            return () if self._strict else None
        return role.s3_prefixes

    def credentials(self, account_id: str, arn: str, session_name: str) -> TemporaryCredentials | None:
        """Return what the holder of an execution role signs with; None for a role that is not defined.

        Args:
            account_id: the account of the microVM.
            arn: its `executionRoleArn`.
            session_name: who uses it, for the audit trail: the microVM's id.
        """
        role = self._find(account_id, arn)
        if role is None:
            return None
        made = self._identities.start_session(account_id, PrincipalKind.ROLE, role.name, session_name, CREDENTIALS_S)
        if role.credentials is None:
            return made
        own = _open(self._vault, role.credentials)
        return TemporaryCredentials(
            own.access_key_id, own.secret_access_key, own.session_token or "", made.issued_at, made.expires_at
        )

    def _find_usable(self, account_id: str, arn: str) -> Role | None:
        """Where roles are strict, what an account made for itself stands for nothing that Lambda may do."""
        role = self._find(account_id, arn)
        return None if role is not None and self._strict and not role.defined else role

    def _find(self, account_id: str, arn: str) -> Role | None:
        return self._identities.find_role(account_id, arn.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class PutRole:
    """Asks for a role, in place of the one of the same name.

    Args:
        account_id: the account.
        name: of the role.
        description: for people.
        s3_prefixes: `s3://bucket/prefix` that a build with this role may read; None for all.
        policy_document: what its holders may do of this server, JSON in IAM's language; None for nothing.
        credentials: what its holders get instead of temporary credentials of this server.
    """

    account_id: str
    name: str
    description: str
    s3_prefixes: tuple[str, ...] | None
    policy_document: str | None
    credentials: OwnCredentials | None


@dataclass(frozen=True, slots=True)
class RoleDetails:
    """A role with its policy, and the public half of its credentials; None where it has none."""

    role: Role
    policy_document: str | None
    access_key_id: str | None


class RoleService:
    """Puts, lists and removes roles.

    Args:
        identities: who is who.
        store: the rows.
        vault: seals credentials.
    """

    def __init__(self, identities: Identities, store: AccessStore, vault: Vault) -> None:
        self._identities = identities
        self._store = store
        self._vault = vault

    def put(self, asked: PutRole) -> RoleDetails:
        """Define a role: what it may do is what is put, other policies that it had are gone.

        Raises:
            NotFoundError: there is no such account.
            ValidationError: the policy is malformed.
        """
        account_id = self._identities.check_account(asked.account_id)
        document, now = asked.policy_document, datetime.now(UTC)
        known = self._identities.find_role(account_id, asked.name)
        policy = None
        if document is not None:
            parse_policy(document)
            policy = AttachedPolicy(account_id, PrincipalKind.ROLE, asked.name, _POLICY, document, now)
        role = Role(
            account_id=account_id,
            name=asked.name,
            description=asked.description,
            s3_prefixes=asked.s3_prefixes,
            credentials=None if asked.credentials is None else _seal(self._vault, asked.credentials),
            updated_at=now,
            created_at=now,
        )
        if known is not None:  # what only IAM's operations set stays as it is
            role = replace(
                role, path=known.path, trust_document=known.trust_document, max_session_s=known.max_session_s,
                tags=known.tags, created_at=known.created_at,
            )  # fmt: skip
        self._store.put_role(role, policy)
        self._identities.reload()
        return self._details(role, document)

    def list_roles(self, account_id: str) -> list[RoleDetails]:
        """Return the roles of an account, by name.

        Raises:
            NotFoundError: there is no such account.
        """
        self._identities.check_account(account_id)
        documents = {
            policy.principal: policy.document
            for policy in self._store.list_policies()
            if (policy.account_id, policy.kind, policy.name) == (account_id, PrincipalKind.ROLE, _POLICY)
        }
        return [self._details(role, documents.get(role.name)) for role in self._identities.roles(account_id)]

    def delete(self, account_id: str, name: str) -> None:
        """Remove a role with its policy.

        Raises:
            NotFoundError: there is no such account or role.
        """
        role = self._identities.find_role(self._identities.check_account(account_id), name)
        if role is None:
            raise NotFoundError(f"Role not found: {name}", resourceId=name, resourceType="Role")
        self._store.remove_role(role)
        self._identities.reload()

    def _details(self, role: Role, document: str | None) -> RoleDetails:
        own = None if role.credentials is None else _open(self._vault, role.credentials)
        return RoleDetails(role, document, None if own is None else own.access_key_id)


def _seal(vault: Vault, credentials: OwnCredentials) -> str:
    """Return what is stored of credentials; a token that there is none of is left out."""
    stored = {"accessKeyId": credentials.access_key_id, "secretAccessKey": credentials.secret_access_key}
    if credentials.session_token is not None:
        stored["sessionToken"] = credentials.session_token
    return vault.seal(stored)


def _open(vault: Vault, sealed: str) -> OwnCredentials:
    stored = vault.open(sealed)
    return OwnCredentials(stored["accessKeyId"], stored["secretAccessKey"], stored.get("sessionToken"))
