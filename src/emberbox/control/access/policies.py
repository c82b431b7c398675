"""The policies of users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from emberbox.control.access.accounts import ADMIN_POLICY
from emberbox.control.access.identities import Identities
from emberbox.model.errors import ConflictError, NotFoundError
from emberbox.model.iam.access import ADMIN_USER, AttachedPolicy, PrincipalKind
from emberbox.model.iam.policies import FULL_ACCESS_DOCUMENT, parse_policy
from emberbox.store.access import AccessStore


@dataclass(frozen=True, slots=True)
class PolicyName:
    """Names a policy of a user."""

    account_id: str
    user_name: str
    name: str


class PolicyService:
    """Puts, lists and removes policies.

    Args:
        identities: who is who.
        store: the rows.
    """

    def __init__(self, identities: Identities, store: AccessStore) -> None:
        self._identities = identities
        self._store = store

    def put(self, name: PolicyName, document: str) -> AttachedPolicy:
        """Give a user a policy, in place of the one of the same name; it takes effect with the next request.

        Args:
            name: whose, and which.
            document: JSON in IAM's language.

        Raises:
            NotFoundError: there is no such account.
            ConflictError: the user may do everything always.
            ValidationError: the document is malformed.
        """
        self._check_user(name)
        parse_policy(document)
        now = datetime.now(UTC)
        policy = AttachedPolicy(name.account_id, PrincipalKind.USER, name.user_name, name.name, document, now)
        self._store.put_policy(policy)
        self._identities.reload()
        return policy

    def list_policies(self, account_id: str, user_name: str | None) -> list[AttachedPolicy]:
        """Return the policies of one user or of all, by user and name, the built-in one first.

        Raises:
            NotFoundError: there is no such account.
        """
        self._identities.check_account(account_id)
        found = [policy for policy in self._list(account_id) if user_name in (None, policy.principal)]
        if account_id == self._identities.operator_account and user_name in (None, ADMIN_USER):
            found.insert(0, _built_in(account_id))
        return found

    def delete(self, name: PolicyName) -> None:
        """Take a policy from a user; it takes effect with the next request.

        Raises:
            NotFoundError: there is no such account or policy.
            ConflictError: the user may do everything always.
        """
        self._check_user(name)
        for policy in self._list(name.account_id):
            if (policy.principal, policy.name) == (name.user_name, name.name):
                self._store.remove_policy(policy)
                self._identities.reload()
                return
        raise NotFoundError(
            f"Policy not found: {name.name} of user {name.user_name}", resourceId=name.name, resourceType="Policy"
        )

    def _list(self, account_id: str) -> list[AttachedPolicy]:
        policies = self._store.list_policies()
        return [policy for policy in policies if (policy.account_id, policy.kind) == (account_id, PrincipalKind.USER)]

    def _check_user(self, name: PolicyName) -> None:
        self._identities.check_account(name.account_id)
        if self._identities.is_operators_admin(name.account_id, PrincipalKind.USER, name.user_name):
            raise ConflictError(
                f"The user {name.user_name} of the operator's account always may do everything, so that nobody is "
                "locked out. Make another user for narrower rights."
            )


def _built_in(account_id: str) -> AttachedPolicy:
    return AttachedPolicy(account_id, PrincipalKind.USER, ADMIN_USER, ADMIN_POLICY, FULL_ACCESS_DOCUMENT, None)
