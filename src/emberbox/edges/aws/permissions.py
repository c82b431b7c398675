"""What a request of AWS's API needs of policies: actions, their ARNs, condition keys (dossier, section 9.3).

One table says on what an operation acts; where it says nothing, the operation's own members do. Operations on
microVMs are authorised on the ARN of their image, lists on `*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from functools import cache
from typing import Final, Protocol

from emberbox.control.access.authorisation import ADMINISTRATION, PASS_ROLE, AccessRequest, Permission
from emberbox.edges.aws.operations.handler import Parameters
from emberbox.edges.aws.permissions_around import facts_around, needed_around, passed_to
from emberbox.model.arns import image_arn, managed_connector_arn
from emberbox.model.iam.access import AccessKey, PrincipalKind, Role, iam_arn
from emberbox.spec.models import AROUND, CORE, EMBERBOX, LOGS, MICROVMS, load_operation

PREFIXES: Final = {MICROVMS: "lambda:", CORE: "lambda:", LOGS: "logs:", EMBERBOX: ADMINISTRATION}
"""What the actions of a service begin with."""

ANYTHING: Final = "*"
PASS_CONNECTOR: Final = "lambda:PassNetworkConnector"  # noqa: S105 - an action
TAG: Final = "lambda:TagResource"
_CONNECTOR_VERSION: Final = re.compile(r"(:network-connector:nc-[0-9a-f-]+):\d+")


class On(Enum):
    """What an operation acts on."""

    ANYTHING = auto()
    IMAGE = auto()
    NEW_IMAGE = auto()
    MICROVM = auto()
    RESOURCE = auto()
    CONNECTOR = auto()
    LOG_GROUP = auto()
    LOG_GROUPS = auto()
    USER = auto()
    KEY = auto()
    ROLE = auto()


_TARGETS: Final[Mapping[str, On]] = {
    "CreateMicrovmImage": On.NEW_IMAGE,
    "CreateNetworkConnector": On.ANYTHING,
    "ListTags": On.RESOURCE,
    "ListNetworkConnectorVersions": On.CONNECTOR,
    "ListManagedMicrovmImageVersions": On.ANYTHING,
    "CreateAccessKey": On.USER,
    "ListAccessKeys": On.ANYTHING,
    "ListPolicies": On.ANYTHING,
}
_MEMBERS: Final[Mapping[str, On]] = {
    "microvmIdentifier": On.MICROVM,
    "imageIdentifier": On.IMAGE,
    "Resource": On.RESOURCE,
    "Identifier": On.CONNECTOR,
    "accessKeyId": On.KEY,
    "userName": On.USER,
    "roleName": On.ROLE,
}
_OTHER_ACTIONS: Final[Mapping[str, str]] = {"AssumeRole": "sts:AssumeRole"}
_PASSED_ROLES: Final = ("buildRoleArn", "executionRoleArn", "OperatorRole")
_UNASSUMABLE: Final = (
    "The service is unable to assume the provided NetworkConnectorOperatorRole. "
    "Please verify the trust policy on the role."
)
_PASSES_CONNECTORS: Final = frozenset({"CreateMicrovmImage", "UpdateMicrovmImage", "RunMicrovm"})


@cache
def target_of(service: str, operation: str) -> On:
    """Say what an operation acts on."""
    if operation in _TARGETS:
        return _TARGETS[operation]
    if operation.startswith("List"):
        return On.ANYTHING
    shape = load_operation(service, operation).input_shape
    members = shape.members if shape is not None else {}
    if service == LOGS:
        return On.LOG_GROUP if {"logGroupName", "logGroupIdentifier"} & members.keys() else On.LOG_GROUPS
    return next((target for name, target in _MEMBERS.items() if name in members), On.ANYTHING)


class Resources(Protocol):
    """What is looked up to find the ARN that counts."""

    def image_of(self, account_id: str, microvm_id: str) -> str | None:
        """Return the ARN of a microVM's image; None when the account has no such microVM."""
        ...

    def egress_of(self, image_arn: str, version: str | None) -> list[str]:
        """Return the egress connectors of an image's version, or of its latest active one."""
        ...

    def connector_arn(self, account_id: str, identifier: str) -> str | None:
        """Return the ARN of the account's connector of an id or a name."""
        ...

    def find_key(self, account_id: str, access_key_id: str) -> AccessKey | None:
        """Return an access key that the account may know of."""
        ...

    def find_role(self, account_id: str, name: str) -> Role | None:
        """Return a role of an account."""
        ...


class Permissions:
    """Works out what a request needs.

    Args:
        resources: see there.
        region: the region played.
    """

    def __init__(self, resources: Resources, region: str) -> None:
        self._resources = resources
        self._region = region
        self._finders: Mapping[On, Callable[[str, Parameters], str]] = {
            On.ANYTHING: lambda _account_id, _parameters: ANYTHING,
            On.IMAGE: self._image,
            On.NEW_IMAGE: lambda account_id, parameters: image_arn(region, account_id, parameters["name"]),
            On.MICROVM: self._image_of_microvm,
            On.RESOURCE: lambda _account_id, parameters: str(parameters["Resource"]),
            On.CONNECTOR: self._connector,
            On.LOG_GROUP: self._log_group,
            On.LOG_GROUPS: lambda account_id, _parameters: f"arn:aws:logs:{region}:{account_id}:log-group:*",
            On.USER: self._user,
            On.KEY: self._user_of_key,
            On.ROLE: self._role,
        }

    def request(self, account_id: str, service: str, operation: str, parameters: Parameters) -> AccessRequest:
        """Return what a request of an account needs.

        Args:
            account_id: the account of who signed.
            service: the service's name.
            operation: the operation's name.
            parameters: the operation's parameters.
        """
        if service in AROUND:
            around = needed_around(self._resources, account_id, service, operation, parameters, self._region)
            return AccessRequest(tuple(around), facts=facts_around(parameters), passed_to=passed_to(service))
        needed = self.of(account_id, service, operation, parameters)
        unassumable = _UNASSUMABLE if "OperatorRole" in parameters else None
        return AccessRequest(tuple(needed), parameters.get("accountId"), request_facts(parameters), unassumable)

    def of(self, account_id: str, service: str, operation: str, parameters: Parameters) -> list[Permission]:
        """Return the permissions that a request of an account needs; the operation's own comes first."""
        action = _OTHER_ACTIONS.get(operation) or f"{PREFIXES[service]}{operation}"
        resource = self._finders[target_of(service, operation)](account_id, parameters)
        permissions = [Permission(action, resource)]
        if operation in _PASSES_CONNECTORS:
            connectors = self._connectors(operation, resource, parameters)
            permissions += [Permission(PASS_CONNECTOR, _unversioned(arn)) for arn in connectors]
        permissions += [Permission(PASS_ROLE, arn) for arn in passed_roles(parameters)]
        if operation.startswith("Create") and (parameters.get("tags") or parameters.get("Tags")):
            permissions.append(Permission(TAG, resource))
        return permissions

    def _connectors(self, operation: str, image: str, parameters: Parameters) -> Iterator[str]:
        egress = parameters.get("egressNetworkConnectors")
        if operation == "RunMicrovm":
            yield from parameters.get("ingressNetworkConnectors") or [self._managed("HTTP_INGRESS")]
            egress = egress or self._resources.egress_of(image, parameters.get("imageVersion"))
        yield from egress or [self._managed("INTERNET_EGRESS")]

    def _managed(self, name: str) -> str:
        return managed_connector_arn(self._region, name)

    def _image(self, account_id: str, parameters: Parameters) -> str:
        """An identifier that is no ARN is refused by the handler; until then it stands for no image at all."""
        identifier = str(parameters["imageIdentifier"])
        return identifier if identifier.startswith("arn:") else image_arn(self._region, account_id, ANYTHING)

    def _image_of_microvm(self, account_id: str, parameters: Parameters) -> str:
        found = self._resources.image_of(account_id, parameters["microvmIdentifier"])
        return found or image_arn(self._region, account_id, ANYTHING)

    def _connector(self, account_id: str, parameters: Parameters) -> str:
        identifier = str(parameters["Identifier"])
        if identifier.startswith("arn:"):
            return _unversioned(identifier)
        name, _, _ = identifier.partition(":")
        found = self._resources.connector_arn(account_id, name)
        return found or f"arn:aws:lambda:{self._region}:{account_id}:network-connector:{name}"

    def _log_group(self, account_id: str, parameters: Parameters) -> str:
        identifier = str(parameters.get("logGroupName") or parameters.get("logGroupIdentifier") or "")
        if identifier.startswith("arn:"):
            group = identifier.removesuffix(":*")
        else:
            group = f"arn:aws:logs:{self._region}:{account_id}:log-group:{identifier}"
        stream = parameters.get("logStreamName")
        return f"{group}:*" if stream is None else f"{group}:log-stream:{stream}"

    def _user(self, account_id: str, parameters: Parameters) -> str:
        return iam_arn(parameters.get("accountId", account_id), PrincipalKind.USER, parameters["userName"])

    def _user_of_key(self, account_id: str, parameters: Parameters) -> str:
        key = self._resources.find_key(account_id, parameters["accessKeyId"])
        if key is None:
            return iam_arn(account_id, PrincipalKind.USER, ANYTHING)
        return iam_arn(key.account_id, PrincipalKind.USER, key.user_name)

    def _role(self, account_id: str, parameters: Parameters) -> str:
        return iam_arn(parameters.get("accountId", account_id), PrincipalKind.ROLE, parameters["roleName"])


def passed_roles(parameters: Parameters) -> list[str]:
    """Return the ARNs of the roles that a request passes on."""
    return [parameters[name] for name in _PASSED_ROLES if parameters.get(name)]


def request_facts(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that a request has by itself, in lower case."""
    tags = parameters.get("tags") or parameters.get("Tags") or {}
    facts: dict[str, tuple[str, ...]] = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    if keys := tuple(tags) or tuple(parameters.get("TagKeys") or ()):
        facts["aws:tagkeys"] = keys
    egress = (parameters.get("Configuration") or {}).get("VpcEgressConfiguration") or {}
    for name in ("SubnetIds", "SecurityGroupIds"):
        if values := egress.get(name):
            facts[f"lambda:{name.lower()}"] = tuple(values)
    return facts


def _unversioned(arn: str) -> str:
    return _CONNECTOR_VERSION.sub(r"\1", arn)
