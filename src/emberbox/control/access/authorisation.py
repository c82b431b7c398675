"""May the sender of a request do this? Asked after the request was validated and before it is handled.

An edge says by an `AccessRequest` what one of its requests needs, in the words of the policy language: actions, ARNs
and condition keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from emberbox.control.access.identities import Identities
from emberbox.control.access.resources import ResourceIndex
from emberbox.control.access.roles import Roles
from emberbox.model.errors import AccessDeniedError
from emberbox.model.iam.access import Credential
from emberbox.model.iam.global_keys import RESOURCE_ACCOUNT, owner_of, principal_keys
from emberbox.model.iam.policies import Decision, decide

PASS_ROLE: Final = "iam:PassRole"  # noqa: S105 - an action
ADMINISTRATION: Final = "emberbox:"
"""What the actions on this server itself begin with: the operator may ask for them in every account."""

OPERATORS_ONLY: Final = frozenset(
    ADMINISTRATION + name
    for name in ("CreateAccount", "ListAccounts", "PutRole", "DeleteRole", "PutQuota", "DeleteQuota")
)
"""What changes the limits that an account works in is not for the account itself to do, whatever its policies say."""

LAMBDA: Final = "lambda.amazonaws.com"
_ACCOUNT: Final = re.compile(r"arn:[^:]*:[^:]*:[^:]*:([0-9]{12}):")
_TAG_KEY: Final = "aws:resourcetag/"

Facts = Mapping[str, tuple[str, ...]]
"""Condition keys, in lower case, with their values."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One action on one resource: `lambda:RunMicrovm` on an ARN, or on `*`."""

    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What a request needs.

    Args:
        permissions: all of them; the first is that of the request's own action. None where anybody known may ask.
        account_id: the account that it says it is about; None for the sender's.
        facts: the condition keys that it has by itself.
        unassumable: what it is told when a role that it passes is not defined, and roles are strict; None for what
            tells the operator how to define it.
        passed_to: the service that a role is passed to.
        is_secure: it came over TLS.
    """

    permissions: tuple[Permission, ...]
    account_id: str | None = None
    facts: Facts = field(default_factory=dict)
    unassumable: str | None = None
    passed_to: str = LAMBDA
    is_secure: bool = False

    @property
    def own(self) -> Permission:
        """The permission for the request's own action."""
        return self.permissions[0]

    @property
    def resources(self) -> tuple[str, ...]:
        """What it is about, each once."""
        return tuple(dict.fromkeys(permission.resource for permission in self.permissions))


class Authoriser:
    """Decides by the policies of who signed.

    Args:
        identities: says which account is the operator's.
        resources: knows the tags of resources.
        roles: the roles that requests pass.
        region: the region played.
    """

    def __init__(self, identities: Identities, resources: ResourceIndex, roles: Roles, region: str) -> None:
        self._identities = identities
        self._resources = resources
        self._roles = roles
        self._region = region

    def authorise(self, credential: Credential, source_ip: str, request: AccessRequest) -> None:
        """Let a request pass, or not.

        Args:
            credential: of who signed.
            source_ip: where the request comes from.
            request: what it needs.

        Raises:
            AccessDeniedError: no policy allows it, or one denies it; the text is AWS's.
            ValidationError: a role is not defined, and roles are strict.
        """
        if not request.permissions:
            return
        own = request.own
        is_operator = credential.account_id == self._identities.operator_account
        if own.action in OPERATORS_ONLY and not is_operator:
            raise _denied(credential, own, "because it is the operator's business")
        if not (own.action.startswith(ADMINISTRATION) and is_operator):
            _check_account(credential, request)
        facts = cache(partial(_facts, credential, source_ip, self._region, request))  # most policies ask for none
        for permission in request.permissions:
            context = _Context(facts, self._resources, permission, request.passed_to, credential.account_id)
            decision = decide(credential.policies, permission.action, permission.resource, context)
            if decision is not Decision.ALLOW:
                raise _denied(credential, permission, _reason(permission, decision))
        for permission in request.permissions:
            if permission.action == PASS_ROLE and request.passed_to == LAMBDA:
                self._roles.check_defined(credential.account_id, permission.resource, request.unassumable)


def _check_account(credential: Credential, request: AccessRequest) -> None:
    """Another account's resources are closed: there are no policies of resources that could open them."""
    if request.account_id not in (None, credential.account_id):
        raise _denied(credential, request.own, _reason(request.own, None))
    for permission in request.permissions:
        owner = _ACCOUNT.match(permission.resource)
        if owner is not None and owner[1] != credential.account_id:
            if permission.action == PASS_ROLE:
                raise AccessDeniedError("Cross-account pass role is not allowed.")
            raise _denied(credential, permission, _reason(permission, None))


def _reason(permission: Permission, decision: Decision | None) -> str:
    if decision is Decision.EXPLICIT_DENY:
        return "with an explicit deny in an identity-based policy"
    kind = "resource-based" if decision is None else "identity-based"
    return f"because no {kind} policy allows the {permission.action} action"


def _denied(credential: Credential, permission: Permission, reason: str) -> AccessDeniedError:
    return AccessDeniedError(
        f"User: {credential.principal_arn} is not authorized to perform: {permission.action} "
        f"on resource: {permission.resource} {reason}"
    )


def _facts(credential: Credential, source_ip: str, region: str, request: AccessRequest) -> Facts:
    """What is known of the sender counts, whatever an edge says of the request."""
    return {**request.facts, **principal_keys(credential, source_ip, region, is_secure=request.is_secure)}


class _Context:
    """The condition keys of one permission; the tags of its resource are looked up when a policy asks for them."""

    def __init__(
        self,
        facts: Callable[[], Facts],
        resources: ResourceIndex,
        permission: Permission,
        passed_to: str,
        account_id: str,
    ) -> None:
        self._account_id = account_id
        self._facts = facts
        self._resources = resources
        self._permission = permission
        self._passed_to = passed_to
        self._tags: dict[str, tuple[str, ...]] | None = None

    def get(self, key: str, /) -> Sequence[str] | None:
        if key == "iam:passedtoservice":
            return (self._passed_to,) if self._permission.action == PASS_ROLE else None
        if key == RESOURCE_ACCOUNT:
            owner = owner_of(self._permission.resource, self._account_id)
            return None if owner is None else (owner,)
        if not key.startswith(_TAG_KEY):
            return self._facts().get(key)
        if self._tags is None:
            tags = self._resources.tags_of(self._permission.resource)
            self._tags = {f"{_TAG_KEY}{name.lower()}": (value,) for name, value in tags.items()}
        return self._tags.get(key)
