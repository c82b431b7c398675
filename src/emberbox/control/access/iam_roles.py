"""Roles as IAM has them: made and changed bit by bit, with any number of policies of their own.

They are the same roles as those of `roles.py`. A role that the operator defined for another account is not for that
account to change: it may be wider (S3 of others, credentials of elsewhere), or narrower, than what an account can give
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller
from emberbox.model.errors import (
    AlreadyExistsError,
    InUseError,
    MalformedPolicyError,
    NotFoundError,
    UnmodifiableError,
    ValidationError,
)
from emberbox.model.iam.access import AttachedPolicy, PrincipalKind, Role
from emberbox.model.iam.policies import parse_policy
from emberbox.model.iam.trust import parse_trust
from emberbox.store.access import AccessStore

TAGS_MAX = 50


@dataclass(frozen=True, slots=True)
class CreateRole:
    """Asks for a role that may do nothing yet.

    Args:
        name: of the role.
        trust_document: who may assume it, JSON in IAM's language.
        path: of its ARN, with a slash at both ends.
        description: for people.
        max_session_s: seconds that a session may live.
        tags: by key.
    """

    name: str
    trust_document: str
    path: str = "/"
    description: str = ""
    max_session_s: int = 3600
    tags: Mapping[str, str] = field(default_factory=dict)


class IamRoles:
    """Makes, shows and changes roles of the caller's account.

    Args:
        identities: who is who.
        store: the rows.
    """

    def __init__(self, identities: Identities, store: AccessStore) -> None:
        self._identities = identities
        self._store = store

    def create(self, caller: Caller, asked: CreateRole) -> Role:
        """Make a role.

        Raises:
            AlreadyExistsError: there is one of the name.
            MalformedPolicyError: the trust policy means nothing.
            ValidationError: there are too many tags.
        """
        if self._identities.find_role(caller.account_id, asked.name) is not None:
            raise AlreadyExistsError(f"Role with name {asked.name} already exists.")
        check_trust(asked.trust_document)
        _check_tags(asked.tags)
        now = datetime.now(UTC)
        role = Role(
            caller.account_id, asked.name, asked.description, None, None, now,
            path=asked.path, trust_document=asked.trust_document, max_session_s=asked.max_session_s,
            tags=dict(asked.tags), created_at=now, defined=self._is_operator(caller),
        )  # fmt: skip
        self._store.put_role(role, None)
        self._identities.reload()
        return role

    def get(self, caller: Caller, name: str) -> Role:
        """Return a role.

        Raises:
            NotFoundError: there is none of the name.
        """
        role = self._identities.find_role(caller.account_id, name)
        if role is None:
            raise NotFoundError(f"The role with name {name} cannot be found.")
        return role

    def list_roles(self, caller: Caller, path_prefix: str) -> list[Role]:
        """Return the account's roles below a path, by name."""
        return [role for role in self._identities.roles(caller.account_id) if role.path.startswith(path_prefix)]

    def update(self, caller: Caller, name: str, description: str | None, max_session_s: int | None) -> Role:
        """Change what is given, and leave what is None.

        Raises:
            NotFoundError, UnmodifiableError: see `get`; the operator defined it.
        """
        role = self._modifiable(caller, name)
        kept_description = role.description if description is None else description
        kept_s = role.max_session_s if max_session_s is None else max_session_s
        return self._save(replace(role, description=kept_description, max_session_s=kept_s))

    def update_trust(self, caller: Caller, name: str, document: str) -> None:
        """Say anew who may assume a role.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
            MalformedPolicyError: the trust policy means nothing.
        """
        role = self._modifiable(caller, name)
        check_trust(document)
        self._save(replace(role, trust_document=document))

    def delete(self, caller: Caller, name: str) -> None:
        """Remove a role that has no policies any more.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
            InUseError: it has policies.
        """
        role = self._modifiable(caller, name)
        if self.policies_of(caller, name):
            raise InUseError("Cannot delete entity, must delete policies first.")
        if any(one.role_name == name for one in self._identities.attachments(caller.account_id)):
            raise InUseError("Cannot delete entity, must detach all policies first.")
        self._store.remove_role(role)
        self._identities.reload()

    def tag(self, caller: Caller, name: str, tags: Mapping[str, str]) -> None:
        """Add tags, and change those that are there.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
            ValidationError: there are too many then.
        """
        role = self._modifiable(caller, name)
        merged = {**role.tags, **tags}
        _check_tags(merged)
        self._save(replace(role, tags=merged))

    def untag(self, caller: Caller, name: str, keys: Sequence[str]) -> None:
        """Remove tags; those that are not there do not matter.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
        """
        role = self._modifiable(caller, name)
        self._save(replace(role, tags={key: value for key, value in role.tags.items() if key not in keys}))

    def put_policy(self, caller: Caller, role_name: str, name: str, document: str) -> None:
        """Give a role a policy of its own, in place of the one of the same name; it counts with the next request.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
            MalformedPolicyError: the document means nothing.
        """
        role = self._modifiable(caller, role_name)
        check_document(document)
        now = datetime.now(UTC)
        self._store.put_policy(AttachedPolicy(role.account_id, PrincipalKind.ROLE, role.name, name, document, now))
        self._identities.reload()

    def policy(self, caller: Caller, role_name: str, name: str) -> AttachedPolicy:
        """Return a policy of a role.

        Raises:
            NotFoundError: there is no such role, or it has no such policy.
        """
        for policy in self.policies_of(caller, role_name):
            if policy.name == name:
                return policy
        raise NotFoundError(f"The role policy with name {name} cannot be found.")

    def delete_policy(self, caller: Caller, role_name: str, name: str) -> None:
        """Take a policy from a role.

        Raises:
            NotFoundError: see `policy`.
            UnmodifiableError: see `update`.
        """
        self._modifiable(caller, role_name)
        self._store.remove_policy(self.policy(caller, role_name, name))
        self._identities.reload()

    def policies_of(self, caller: Caller, role_name: str) -> list[AttachedPolicy]:
        """Return a role's own policies, by name.

        Raises:
            NotFoundError: see `get`.
        """
        role = self.get(caller, role_name)
        owner = (role.account_id, PrincipalKind.ROLE, role.name)
        found = self._store.list_policies()
        return [policy for policy in found if (policy.account_id, policy.kind, policy.principal) == owner]

    def check_modifiable(self, caller: Caller, name: str) -> None:
        """Look whether the caller's account may change a role.

        Raises:
            NotFoundError, UnmodifiableError: see `update`.
        """
        self._modifiable(caller, name)

    def _modifiable(self, caller: Caller, name: str) -> Role:
        role = self.get(caller, name)
        if role.defined and not self._is_operator(caller):
            raise UnmodifiableError(
                f"The role {name} is defined by the operator of this server, who changes it with `emberbox roles put`."
            )
        return role

    def _is_operator(self, caller: Caller) -> bool:
        return caller.account_id == self._identities.operator_account

    def _save(self, role: Role) -> Role:
        self._store.update_role(role)
        self._identities.reload()
        return role


def check_document(document: str) -> None:
    """Read a policy.

    Raises:
        MalformedPolicyError: it means nothing; the text names the place.
    """
    try:
        parse_policy(document)
    except ValidationError as error:
        raise MalformedPolicyError(error.message) from error


def check_trust(document: str) -> None:
    """Read a trust policy.

    Raises:
        MalformedPolicyError: it means nothing; the text names the place.
    """
    try:
        parse_trust(document)
    except ValidationError as error:
        raise MalformedPolicyError(error.message) from error


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > TAGS_MAX:
        raise ValidationError(f"A role has at most {TAGS_MAX} tags.")
