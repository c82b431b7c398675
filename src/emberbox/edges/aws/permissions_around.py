"""What a request of a service around needs of policies: actions, ARNs and condition keys.

They are those of AWS's "Service Authorization Reference".
STS lets everybody ask who they are, and users for sessions of their own, whatever their policies say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from emberbox.control.access.authorisation import Permission
from emberbox.edges.aws.operations.handler import Parameters
from emberbox.model.iam.access import PrincipalKind, Role, iam_arn
from emberbox.spec.models import CLOUDWATCH, EC2, IAM, QUOTAS, STS

ANYTHING: Final = "*"
PREFIXES: Final[Mapping[str, str]] = {
    STS: "sts:",
    IAM: "iam:",
    QUOTAS: "servicequotas:",
    CLOUDWATCH: "cloudwatch:",
    EC2: "ec2:",
}
FREE: Final = frozenset({(STS, "GetCallerIdentity"), (STS, "GetSessionToken")})
"""What needs no permission ("Permissions for AWS STS")."""

_TAGGING: Final = {"CreateRole": "iam:TagRole", "CreatePolicy": "iam:TagPolicy"}
_KEYS: Final = {"PolicyArn": "iam:policyarn", "ExternalId": "sts:externalid", "RoleSessionName": "sts:rolesessionname"}


class RoleFinder(Protocol):
    """Knows roles."""

    def find_role(self, account_id: str, name: str) -> Role | None:
        """Return a role of an account."""
        ...


def needed_around(
    roles: RoleFinder, account_id: str, service: str, operation: str, parameters: Parameters
) -> list[Permission]:
    """Return the permissions that a request needs; none where it is free.

    Args:
        roles: where a role's path is looked up.
        account_id: the account of who signed.
        service: the service's name in its model.
        operation: the operation's name.
        parameters: its parameters.
    """
    if (service, operation) in FREE:
        return []
    finder = _FINDERS.get(service, _anything)
    resource = finder(roles, account_id, parameters)
    needed = [Permission(f"{PREFIXES[service]}{operation}", resource)]
    if operation in _TAGGING and parameters.get("Tags"):
        needed.append(Permission(_TAGGING[operation], resource))
    return needed


def facts_around(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that a request has by itself, in lower case."""
    tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags") or ()}
    facts: dict[str, tuple[str, ...]] = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    if keys := tuple(tags) or tuple(parameters.get("TagKeys") or ()):
        facts["aws:tagkeys"] = keys
    for name, key in _KEYS.items():
        if value := parameters.get(name):
            facts[key] = (value,)
    return facts


def _anything(_roles: RoleFinder, _account_id: str, _parameters: Parameters) -> str:
    return ANYTHING


def _of_sts(_roles: RoleFinder, _account_id: str, parameters: Parameters) -> str:
    return str(parameters.get("RoleArn", ANYTHING))


def _of_iam(roles: RoleFinder, account_id: str, parameters: Parameters) -> str:
    if name := parameters.get("RoleName"):
        known = roles.find_role(account_id, name)
        path = parameters.get("Path", "/") if known is None else known.path
        return iam_arn(account_id, PrincipalKind.ROLE, f"{path}{name}"[1:])
    if name := parameters.get("PolicyName"):
        return iam_arn(account_id, "policy", f"{parameters.get('Path', '/')}{name}"[1:])
    return str(parameters.get("PolicyArn") or parameters.get("PolicySourceArn") or ANYTHING)


_FINDERS: Final[Mapping[str, Callable[[RoleFinder, str, Parameters], str]]] = {STS: _of_sts, IAM: _of_iam}
