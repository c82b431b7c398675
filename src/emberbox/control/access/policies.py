"""The operations on policies of users."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emberbox.control.access.accounts import ADMIN_POLICY
from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import ConflictError, NotFoundError
from emberbox.model.iam.access import ADMIN_USER, AttachedPolicy, PrincipalKind
from emberbox.model.iam.policies import FULL_ACCESS_DOCUMENT, parse_policy
from emberbox.store.access import AccessStore


class PolicyService:
    """Answers the operations.

    Args:
        identities: who is who.
        store: the rows.
    """

    def __init__(self, identities: Identities, store: AccessStore) -> None:
        self._identities = identities
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"PutPolicy": self.put, "ListPolicies": self.list_policies, "DeletePolicy": self.delete}

    async def put(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """PutPolicy: takes effect with the next request."""
        account_id, user_name = self._check_user(caller, parameters)
        document = parameters["policyDocument"]
        parse_policy(document)
        name, now = parameters["policyName"], datetime.now(UTC)
        policy = AttachedPolicy(account_id, PrincipalKind.USER, user_name, name, document, now)
        self._store.put_policy(policy)
        self._identities.reload()
        return {"policy": show_policy(policy)}

    async def list_policies(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListPolicies, by user and name."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        wanted = parameters.get("userName")
        found = [show_policy(policy) for policy in self._list(account_id) if wanted in (None, policy.principal)]
        if account_id == self._identities.operator_account and wanted in (None, ADMIN_USER):
            found.insert(0, _built_in(account_id))
        return {"items": found}

    async def delete(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeletePolicy: takes effect with the next request."""
        account_id, user_name = self._check_user(caller, parameters)
        name = parameters["policyName"]
        for policy in self._list(account_id):
            if (policy.principal, policy.name) == (user_name, name):
                self._store.remove_policy(policy)
                self._identities.reload()
                return {}
        raise NotFoundError(f"Policy not found: {name} of user {user_name}", resourceId=name, resourceType="Policy")

    def _list(self, account_id: str) -> list[AttachedPolicy]:
        policies = self._store.list_policies()
        return [policy for policy in policies if (policy.account_id, policy.kind) == (account_id, PrincipalKind.USER)]

    def _check_user(self, caller: Caller, parameters: dict[str, Any]) -> tuple[str, str]:
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        user_name = parameters["userName"]
        if self._identities.is_operators_admin(account_id, PrincipalKind.USER, user_name):
            raise ConflictError(
                f"The user {user_name} of the operator's account always may do everything, so that nobody is locked "
                "out. Make another user for narrower rights."
            )
        return account_id, user_name


def _built_in(account_id: str) -> dict[str, Any]:
    return {
        "policyName": ADMIN_POLICY,
        "accountId": account_id,
        "userName": ADMIN_USER,
        "policyDocument": FULL_ACCESS_DOCUMENT,
    }


def show_policy(policy: AttachedPolicy) -> dict[str, Any]:
    """Return a policy as the API shows it."""
    return {
        "policyName": policy.name,
        "accountId": policy.account_id,
        "userName": policy.principal,
        "policyDocument": policy.document,
        "updatedAt": policy.updated_at,
    }
