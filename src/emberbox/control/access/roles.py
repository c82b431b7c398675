"""Roles: names that the operator gives a meaning, and the operations on them.

A build role says what of S3 a build may read. An execution role says which credentials its holder gets: the ones that
the operator put, or temporary ones of this server with the role's policy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from emberbox.control.access.identities import Identities
from emberbox.control.access.vault import Vault
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.iam.access import AttachedPolicy, PrincipalKind, Role, TemporaryCredentials, iam_arn
from emberbox.model.iam.policies import parse_policy
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

    def check_defined(self, account_id: str, arn: str) -> None:
        """Look at a role that a request passes.

        Raises:
            ValidationError: it is not defined, and roles are strict.
        """
        if self._find(account_id, arn) is not None:
            return
        if self._strict:
            raise ValidationError(
                f"The role {arn} cannot be assumed by Lambda: it is not defined. The operator defines it with "
                f"`emberbox roles put {arn.rpartition('/')[2]}`."
            )
        if arn not in self._told and len(self._told) < _MANY:
            self._told.add(arn)
            log.warning(
                "the role %s is not defined: builds with it read its account's buckets (strict_roles is off)", arn
            )

    def readable_prefixes(self, account_id: str, arn: str) -> tuple[str, ...] | None:
        """Return the `s3://` prefixes that a build with a role may read; None for all of its account's buckets."""
        role = self._find(account_id, arn)
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
        own = self._vault.open(role.credentials)
        return TemporaryCredentials(
            own["accessKeyId"], own["secretAccessKey"], own.get("sessionToken", ""), made.issued_at, made.expires_at
        )

    def _find(self, account_id: str, arn: str) -> Role | None:
        return self._identities.find_role(account_id, arn.rpartition("/")[2])


class RoleService:
    """Answers the operations.

    Args:
        identities: who is who.
        store: the rows.
        vault: seals credentials.
    """

    def __init__(self, identities: Identities, store: AccessStore, vault: Vault) -> None:
        self._identities = identities
        self._store = store
        self._vault = vault

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"PutRole": self.put, "ListRoles": self.list_roles, "DeleteRole": self.delete}

    async def put(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """PutRole."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        name, now = parameters["roleName"], datetime.now(UTC)
        policy = None
        if (document := parameters.get("policyDocument")) is not None:
            parse_policy(document)
            policy = AttachedPolicy(account_id, PrincipalKind.ROLE, name, _POLICY, document, now)
        prefixes, credentials = parameters.get("s3Prefixes"), parameters.get("credentials")
        role = Role(
            account_id=account_id,
            name=name,
            description=parameters.get("description", ""),
            s3_prefixes=None if prefixes is None else tuple(prefixes),
            credentials=None if credentials is None else self._vault.seal(credentials),
            updated_at=now,
        )
        self._store.put_role(role, policy)
        self._identities.reload()
        return {"role": self._show(role, document)}

    async def list_roles(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListRoles, by name."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        documents = {
            policy.principal: policy.document
            for policy in self._store.list_policies()
            if (policy.account_id, policy.kind) == (account_id, PrincipalKind.ROLE)
        }
        roles = self._identities.roles(account_id)
        return {"items": [self._show(role, documents.get(role.name)) for role in roles]}

    async def delete(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteRole."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        name = parameters["roleName"]
        role = self._identities.find_role(account_id, name)
        if role is None:
            raise NotFoundError(f"Role not found: {name}", resourceId=name, resourceType="Role")
        self._store.remove_role(role)
        self._identities.reload()
        return {}

    def _show(self, role: Role, document: str | None) -> dict[str, Any]:
        own = None if role.credentials is None else self._vault.open(role.credentials)
        return {
            "roleName": role.name,
            "roleArn": iam_arn(role.account_id, PrincipalKind.ROLE, role.name),
            "accountId": role.account_id,
            "description": role.description,
            "s3Prefixes": None if role.s3_prefixes is None else list(role.s3_prefixes),
            "policyDocument": document,
            "accessKeyId": own and own["accessKeyId"],
            "updatedAt": role.updated_at,
        }
