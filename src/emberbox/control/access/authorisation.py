"""May the sender of a request do this? Asked after the request was validated and before it is handled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

from emberbox.control.access.identities import Identities
from emberbox.control.access.permissions import PASS_ROLE, Permission, Permissions, Resources, passed_roles
from emberbox.control.access.roles import Roles
from emberbox.model.errors import AccessDeniedError
from emberbox.model.iam.access import Credential, PrincipalKind
from emberbox.model.iam.policies import Decision, decide
from emberbox.spec.models import EMBERBOX

OPERATORS_ONLY: Final = frozenset({"CreateAccount", "ListAccounts", "PutRole", "DeleteRole", "PutQuota", "DeleteQuota"})
"""What changes the limits that an account works in is not for the account itself to do, whatever its policies say."""

_ACCOUNT: Final = re.compile(r"arn:[^:]*:[^:]*:[^:]*:([0-9]{12}):")
_TAG_KEY: Final = "aws:resourcetag/"
_PRINCIPAL_TYPES: Final = {PrincipalKind.USER: "User", PrincipalKind.ROLE: "AssumedRole"}


class Authoriser:
    """Decides by the policies of who signed.

    Args:
        identities: says which account is the operator's.
        resources: what requests are about.
        roles: the roles that requests pass.
        region: the region played.
    """

    def __init__(self, identities: Identities, resources: Resources, roles: Roles, region: str) -> None:
        self._identities = identities
        self._resources = resources
        self._roles = roles
        self._permissions = Permissions(resources, region)
        self._region = region

    def authorise(
        self, credential: Credential, source_ip: str, service: str, operation: str, parameters: dict[str, Any]
    ) -> list[str]:
        """Return the ARNs that a request is about.

        Args:
            credential: of who signed.
            source_ip: where the request comes from.
            service: the service's name.
            operation: the operation's name.
            parameters: the operation's parameters.

        Raises:
            AccessDeniedError: no policy allows it, or one denies it; the text is AWS's.
            ValidationError: a role is not defined, and roles are strict.
        """
        needed = self._permissions.of(credential.account_id, service, operation, parameters)
        is_operator = credential.account_id == self._identities.operator_account
        if operation in OPERATORS_ONLY and service == EMBERBOX and not is_operator:
            raise _denied(credential, needed[0], "because it is the operator's business")
        if not (service == EMBERBOX and is_operator):
            _check_account(credential, needed, parameters)
        facts = cache(partial(_facts, credential, source_ip, self._region, parameters))  # most policies ask for none
        for permission in needed:
            context = _Context(facts, self._resources, permission)
            decision = decide(credential.policies, permission.action, permission.resource, context)
            if decision is not Decision.ALLOW:
                raise _denied(credential, permission, _reason(permission, decision))
        for arn in passed_roles(parameters):
            self._roles.check_defined(credential.account_id, arn)
        return list(dict.fromkeys(permission.resource for permission in needed))


def _check_account(credential: Credential, needed: Sequence[Permission], parameters: Mapping[str, Any]) -> None:
    """Another account's resources are closed: there are no policies of resources that could open them."""
    if parameters.get("accountId", credential.account_id) != credential.account_id:
        raise _denied(credential, needed[0], _reason(needed[0], None))
    for permission in needed:
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


def _facts(
    credential: Credential, source_ip: str, region: str, parameters: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that a request has by itself, in lower case."""
    facts = principal_facts(credential, source_ip, region)
    tags = parameters.get("tags") or parameters.get("Tags") or {}
    facts |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    if keys := tuple(tags) or tuple(parameters.get("TagKeys") or ()):
        facts["aws:tagkeys"] = keys
    egress = (parameters.get("Configuration") or {}).get("VpcEgressConfiguration") or {}
    for name in ("SubnetIds", "SecurityGroupIds"):
        if values := egress.get(name):
            facts[f"lambda:{name.lower()}"] = tuple(values)
    return facts


def principal_facts(credential: Credential, source_ip: str, region: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that follow from who signed and from where, in lower case."""
    now = datetime.now(UTC)
    facts: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (f"{now:%Y-%m-%dT%H:%M:%SZ}",),
        "aws:epochtime": (str(int(now.timestamp())),),
        "aws:principalaccount": (credential.account_id,),
        "aws:principalarn": (credential.principal_arn,),
        "aws:principaltype": (_PRINCIPAL_TYPES[credential.kind],),
        "aws:requestedregion": (region,),
        "aws:securetransport": ("false",),
    }
    if source_ip:
        facts["aws:sourceip"] = (source_ip,)
    if credential.kind is PrincipalKind.USER:
        facts["aws:username"] = (credential.name,)
    return facts


class _Context:
    """The condition keys of one permission; the tags of its resource are looked up when a policy asks for them."""

    def __init__(
        self, facts: Callable[[], Mapping[str, tuple[str, ...]]], resources: Resources, permission: Permission
    ) -> None:
        self._facts = facts
        self._resources = resources
        self._permission = permission
        self._tags: dict[str, tuple[str, ...]] | None = None

    def get(self, key: str, /) -> Sequence[str] | None:
        if key == "iam:passedtoservice":
            return ("lambda.amazonaws.com",) if self._permission.action == PASS_ROLE else None
        if not key.startswith(_TAG_KEY):
            return self._facts().get(key)
        if self._tags is None:
            tags = self._resources.tags_of(self._permission.resource)
            self._tags = {f"{_TAG_KEY}{name.lower()}": (value,) for name, value in tags.items()}
        return self._tags.get(key)
