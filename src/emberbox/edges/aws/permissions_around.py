"""What a request of a service around needs of policies: actions, ARNs and condition keys.

They are those of AWS's "Service Authorization Reference".
STS lets everybody ask who they are, and users for sessions of their own, whatever their policies say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from emberbox.control.access.authorisation import LAMBDA, PASS_ROLE, Permission
from emberbox.edges.aws.operations.handler import Parameters
from emberbox.model.iam.access import PrincipalKind, Role, iam_arn
from emberbox.spec.models import CLOUDFORMATION, CLOUDWATCH, EC2, IAM, QUOTAS, SSM, STS

ANYTHING: Final = "*"
PREFIXES: Final[Mapping[str, str]] = {
    STS: "sts:",
    IAM: "iam:",
    QUOTAS: "servicequotas:",
    CLOUDWATCH: "cloudwatch:",
    EC2: "ec2:",
    CLOUDFORMATION: "cloudformation:",
    SSM: "ssm:",
}
FREE: Final = frozenset({(STS, "GetCallerIdentity"), (STS, "GetSessionToken")})
"""What needs no permission ("Permissions for AWS STS")."""

_TAGGING: Final = {"CreateRole": "iam:TagRole", "CreatePolicy": "iam:TagPolicy", "AssumeRole": "sts:TagSession"}
_KEYS: Final = {"PolicyArn": "iam:policyarn", "ExternalId": "sts:externalid", "RoleSessionName": "sts:rolesessionname"}


class RoleFinder(Protocol):
    """Knows roles."""

    def find_role(self, account_id: str, name: str) -> Role | None:
        """Return a role of an account."""
        ...


def needed_around(
    roles: RoleFinder, account_id: str, service: str, operation: str, parameters: Parameters, region: str
) -> list[Permission]:
    """Return the permissions that a request needs; none where it is free.

    Args:
        roles: where a role's path is looked up.
        account_id: the account of who signed.
        service: the service's name in its model.
        operation: the operation's name.
        parameters: its parameters.
        region: the region played, for ARNs.
    """
    if (service, operation) in FREE:
        return []
    resource = _resource(roles, account_id, service, parameters, region)
    needed = [Permission(f"{PREFIXES[service]}{operation}", resource)]
    if operation in _TAGGING and parameters.get("Tags"):
        needed.append(Permission(_TAGGING[operation], resource))
    if service == CLOUDFORMATION and parameters.get("RoleARN"):
        needed.append(Permission(PASS_ROLE, parameters["RoleARN"]))
    return needed


def passed_to(service: str) -> str:
    """Return the service that roles in a request are passed to."""
    return "cloudformation.amazonaws.com" if service == CLOUDFORMATION else LAMBDA


def _resource(roles: RoleFinder, account_id: str, service: str, parameters: Parameters, region: str) -> str:
    if service == CLOUDFORMATION:
        return _of_stacks(account_id, parameters, region)
    if service == SSM:
        return _of_parameters(account_id, parameters, region)
    return _FINDERS.get(service, _anything)(roles, account_id, parameters)


def _of_stacks(account_id: str, parameters: Parameters, region: str) -> str:
    """A stack's ARN ends in an id that a request by name does not have; policies end in a star there."""
    name = str(parameters.get("StackName") or "")
    if name.startswith("arn:"):
        return name
    change_set = str(parameters.get("ChangeSetName") or "")
    if not name and change_set.startswith("arn:"):
        return change_set
    return f"arn:aws:cloudformation:{region}:{account_id}:stack/{name}/*" if name else ANYTHING


def _of_parameters(account_id: str, parameters: Parameters, region: str) -> str:
    name = str(parameters.get("Name") or "")
    if name.startswith("arn:"):
        return name
    return f"arn:aws:ssm:{region}:{account_id}:parameter/{name.lstrip('/')}" if name else ANYTHING


def facts_around(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that a request has by itself, in lower case."""
    tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags") or ()}
    facts: dict[str, tuple[str, ...]] = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    if keys := tuple(tags) or tuple(parameters.get("TagKeys") or ()):
        facts["aws:tagkeys"] = keys
    if transitive := tuple(parameters.get("TransitiveTagKeys") or ()):
        facts["sts:transitivetagkeys"] = transitive
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
