"""What a request of a service around needs of policies: actions and their ARNs, as AWS's "Service Authorization
Reference" has them.

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
    return [Permission(f"{PREFIXES[service]}{operation}", finder(roles, account_id, operation, parameters))]


def _anything(_roles: RoleFinder, _account_id: str, _operation: str, _parameters: Parameters) -> str:
    return ANYTHING


def _of_sts(_roles: RoleFinder, _account_id: str, _operation: str, parameters: Parameters) -> str:
    return str(parameters.get("RoleArn", ANYTHING))


def _of_iam(roles: RoleFinder, account_id: str, operation: str, parameters: Parameters) -> str:
    if name := parameters.get("RoleName"):
        known = roles.find_role(account_id, name)
        path = parameters.get("Path", "/") if known is None else known.path
        return iam_arn(account_id, PrincipalKind.ROLE, f"{path}{name}"[1:])
    if name := parameters.get("PolicyName"):
        return iam_arn(account_id, "policy", f"{parameters.get('Path', '/')}{name}"[1:])
    return str(parameters.get("PolicyArn") or parameters.get("PolicySourceArn") or ANYTHING)


_FINDERS: Final[Mapping[str, Callable[[RoleFinder, str, str, Parameters], str]]] = {STS: _of_sts, IAM: _of_iam}
