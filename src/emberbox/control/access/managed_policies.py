"""Managed policies: those of an account, and those of AWS that mean something here; which roles have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from emberbox.control.access.iam_roles import IamRoles, check_document
from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, InUseError, NotFoundError, ValidationError
from emberbox.model.iam.access import Attachment, ManagedPolicy, PrincipalKind
from emberbox.model.iam.aws_policies import AWS_POLICIES
from emberbox.model.iam.policies import Decision, decide
from emberbox.store.access import AccessStore

AWS: str = "aws"
"""The account that AWS's own policies are of."""

_SINCE = datetime(2015, 2, 6, tzinfo=UTC)
"""When AWS made its first managed policies; each of ours has to have some date."""


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Asks for a managed policy.

    Args:
        name: of the policy.
        document: JSON in IAM's language.
        path: of its ARN, with a slash at both ends.
        description: for people.
        tags: by key.
    """

    name: str
    document: str
    path: str = "/"
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a principal's policies decide about an action on a resource."""

    action: str
    resource: str
    decision: Decision


class ManagedPolicies:
    """Makes managed policies, and attaches them to roles of the caller's account.

    Args:
        identities: who is who.
        store: the rows.
        roles: the roles.
    """

    def __init__(self, identities: Identities, store: AccessStore, roles: IamRoles) -> None:
        self._identities = identities
        self._store = store
        self._roles = roles

    def create(self, caller: Caller, asked: CreatePolicy) -> ManagedPolicy:
        """Make a policy.

        Raises:
            AlreadyExistsError: there is one of the name.
            MalformedPolicyError: the document means nothing.
        """
        check_document(asked.document)
        policy = ManagedPolicy(
            caller.account_id, asked.name, asked.path, asked.description, asked.document, dict(asked.tags),
            datetime.now(UTC),
        )  # fmt: skip
        if not self._store.managed.add(policy):
            raise AlreadyExistsError(f"A policy called {asked.name} already exists. Duplicate names are not allowed.")
        self._identities.reload()
        return policy

    def get(self, caller: Caller, arn: str) -> ManagedPolicy:
        """Return a policy of the account, or one of AWS's.

        Raises:
            NotFoundError: there is none.
        """
        for policy in (*self._identities.managed_policies(caller.account_id), *aws_policies()):
            if policy.arn == arn:
                return policy
        raise NotFoundError(f"Policy {arn} was not found.")

    def list_policies(self, caller: Caller, scope: str, path_prefix: str) -> list[ManagedPolicy]:
        """Return policies below a path: the account's (`Local`), AWS's (`AWS`) or both (`All`)."""
        own = self._identities.managed_policies(caller.account_id) if scope != "AWS" else []
        found = [*own, *(aws_policies() if scope != "Local" else ())]
        return [policy for policy in found if policy.path.startswith(path_prefix)]

    def delete(self, caller: Caller, arn: str) -> None:
        """Remove a policy that no role has.

        Raises:
            NotFoundError: there is none.
            ValidationError: it is AWS's.
            InUseError: a role has it.
        """
        policy = self.get(caller, arn)
        if policy.account_id == AWS:
            raise ValidationError(f"Policy {arn} is AWS's own and cannot be deleted.")
        if self.attachment_counts(caller)[arn]:
            raise InUseError("Cannot delete a policy attached to entities.")
        self._store.managed.remove(policy)
        self._identities.reload()

    def attach(self, caller: Caller, role_name: str, arn: str) -> None:
        """Give a role a policy; it counts with the next request.

        Raises:
            NotFoundError: there is no such role or policy.
            UnmodifiableError: the operator defined the role.
        """
        self._roles.check_modifiable(caller, role_name)
        try:
            self.get(caller, arn)
        except NotFoundError:
            raise NotFoundError(f"Policy {arn} does not exist or is not attachable.") from None
        self._store.managed.attach(Attachment(caller.account_id, role_name, arn))
        self._identities.reload()

    def detach(self, caller: Caller, role_name: str, arn: str) -> None:
        """Take a policy from a role.

        Raises:
            NotFoundError: there is no such role, or it does not have the policy.
            UnmodifiableError: the operator defined the role.
        """
        self._roles.check_modifiable(caller, role_name)
        attachment = Attachment(caller.account_id, role_name, arn)
        if attachment not in self._identities.attachments(caller.account_id):
            raise NotFoundError(f"Policy {arn} was not found.")
        self._store.managed.detach(attachment)
        self._identities.reload()

    def attached(self, caller: Caller, role_name: str) -> list[ManagedPolicy]:
        """Return the managed policies that a role has.

        Raises:
            NotFoundError: there is no such role.
        """
        self._roles.get(caller, role_name)
        found = self._identities.attachments(caller.account_id)
        return [self.get(caller, one.policy_arn) for one in found if one.role_name == role_name]

    def attachment_counts(self, caller: Caller) -> Counter[str]:
        """Return how many of the account's roles have each policy, by ARN."""
        return Counter(one.policy_arn for one in self._identities.attachments(caller.account_id))

    def simulate(
        self, caller: Caller, principal_arn: str, actions: Sequence[str], resources: Sequence[str]
    ) -> list[Simulated]:
        """Return what the policies of a user or a role decide, without conditions of a request.

        Raises:
            NotFoundError: there is no such role; a user is whoever has the name.
            ValidationError: the ARN is neither a user's nor a role's of the account.
        """
        kind, _, name = principal_arn.removeprefix(f"arn:aws:iam::{caller.account_id}:").partition("/")
        name = name.rpartition("/")[2]
        if kind not in list(PrincipalKind) or not name:
            raise ValidationError(f"Invalid Entity Arn: {principal_arn} does not clearly define entity type and name.")
        if kind == PrincipalKind.ROLE:
            self._roles.get(caller, name)
        policies = self._identities.policies_of(caller.account_id, PrincipalKind(kind), name)
        return [
            Simulated(action, resource, decide(policies, action, resource, {}))
            for action in actions
            for resource in resources
        ]


def aws_policies() -> list[ManagedPolicy]:
    """Return AWS's own policies that mean something here."""
    made = []
    for arn, document in AWS_POLICIES.items():
        path, _, name = arn.partition(":policy")[2].rpartition("/")
        made.append(ManagedPolicy(AWS, name, f"{path}/", "", document, {}, _SINCE))
    return made
