"""What every operation needs of policies: actions, the ARNs that they are wanted on, and condition keys."""

from __future__ import annotations

import random
from typing import Any

import pytest

from emberbox.control.access.authorisation import Permission
from emberbox.edges.aws.permissions import On, Permissions, request_facts, target_of
from emberbox.model.iam.access import AccessKey, KeyStatus
from emberbox.spec.models import CORE, EMBERBOX, LOGS, MICROVMS, SERVICES, load_operation, operation_names
from support.wire import example

REGION = "us-east-1"
FIRST, SECOND = "111111111111", "222222222222"
IMAGE = f"arn:aws:lambda:{REGION}:{FIRST}:microvm-image:web"
ROLE = f"arn:aws:iam::{FIRST}:role/build"


def connector(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:{name}"


TARGETS = {
    MICROVMS: {
        On.MICROVM: (
            "GetMicrovm SuspendMicrovm ResumeMicrovm TerminateMicrovm CreateMicrovmAuthToken "
            "CreateMicrovmShellAuthToken"
        ),
        On.IMAGE: (
            "RunMicrovm GetMicrovmImage UpdateMicrovmImage DeleteMicrovmImage GetMicrovmImageVersion "
            "UpdateMicrovmImageVersion DeleteMicrovmImageVersion GetMicrovmImageBuild"
        ),
        On.NEW_IMAGE: "CreateMicrovmImage",
        On.RESOURCE: "ListTags TagResource UntagResource",
        On.ANYTHING: (
            "ListMicrovms ListMicrovmImages ListMicrovmImageVersions ListMicrovmImageBuilds "
            "ListManagedMicrovmImages ListManagedMicrovmImageVersions"
        ),
    },
    CORE: {
        On.CONNECTOR: (
            "GetNetworkConnector UpdateNetworkConnector DeleteNetworkConnector ListNetworkConnectorVersions"
        ),
        On.ANYTHING: "CreateNetworkConnector ListNetworkConnectors",
    },
    LOGS: {
        On.LOG_GROUP: "GetLogEvents FilterLogEvents DescribeLogStreams CreateLogGroup DeleteLogGroup",
        On.LOG_GROUPS: "DescribeLogGroups",
    },
    EMBERBOX: {
        On.USER: "CreateAccessKey PutPolicy DeletePolicy",
        On.KEY: "UpdateAccessKey DeleteAccessKey",
        On.ROLE: "PutRole DeleteRole AssumeRole",
        On.ANYTHING: "CreateAccount ListAccounts ListAccessKeys ListPolicies ListRoles ListQuotas LookupAuditEvents",
    },
}


@pytest.mark.parametrize("service", TARGETS)
def test_every_operation_acts_on_what_aws_says(service: str) -> None:
    for target, names in TARGETS[service].items():
        for name in names.split():
            assert target_of(service, name) is target, name


def test_every_operation_of_microvms_is_in_the_table() -> None:
    listed = {name for names in TARGETS[MICROVMS].values() for name in names.split()}
    assert listed == set(operation_names(MICROVMS))


class Known:
    """One microVM, one image, one connector, one key."""

    def image_of(self, account_id: str, microvm_id: str) -> str | None:
        return IMAGE if (account_id, microvm_id) == (FIRST, "microvm-1") else None

    def egress_of(self, image_arn: str, version: str | None) -> list[str]:
        return [f"arn:aws:lambda:{REGION}:{FIRST}:network-connector:nc-1:3"] if version == "2.0" else []

    def connector_arn(self, account_id: str, identifier: str) -> str | None:
        return f"arn:aws:lambda:{REGION}:{FIRST}:network-connector:nc-1" if identifier == "mine" else None

    def find_key(self, account_id: str, access_key_id: str) -> AccessKey | None:
        known = AccessKey("AKIA1", FIRST, "ann", "", KeyStatus.ACTIVE, None)  # type: ignore[arg-type]
        return known if access_key_id == "AKIA1" else None


PERMISSIONS = Permissions(Known(), REGION)
PASS, PASS_ROLE = "lambda:PassNetworkConnector", "iam:PassRole"
MANAGED_IN, MANAGED_OUT = connector("HTTP_INGRESS"), connector("INTERNET_EGRESS")
OWN_CONNECTOR = f"arn:aws:lambda:{REGION}:{FIRST}:network-connector:nc-1"
LOG = f"arn:aws:logs:{REGION}:{FIRST}:log-group"
NEEDED: list[tuple[str, str, dict[str, Any], list[tuple[str, str]]]] = [
    (MICROVMS, "GetMicrovm", {"microvmIdentifier": "microvm-1"}, [("lambda:GetMicrovm", IMAGE)]),
    (
        MICROVMS,
        "GetMicrovm",
        {"microvmIdentifier": "microvm-2"},
        [("lambda:GetMicrovm", IMAGE.replace("web", "*"))],
    ),
    (
        MICROVMS,
        "RunMicrovm",
        {"imageIdentifier": IMAGE},
        [("lambda:RunMicrovm", IMAGE), (PASS, MANAGED_IN), (PASS, MANAGED_OUT)],
    ),
    (
        MICROVMS,
        "RunMicrovm",
        {"imageIdentifier": IMAGE, "imageVersion": "2.0", "executionRoleArn": ROLE},
        [("lambda:RunMicrovm", IMAGE), (PASS, MANAGED_IN), (PASS, OWN_CONNECTOR), (PASS_ROLE, ROLE)],
    ),
    (
        MICROVMS,
        "RunMicrovm",
        {
            "imageIdentifier": IMAGE,
            "ingressNetworkConnectors": [connector("SHELL_INGRESS")],
            "egressNetworkConnectors": [OWN_CONNECTOR],
        },
        [("lambda:RunMicrovm", IMAGE), (PASS, connector("SHELL_INGRESS")), (PASS, OWN_CONNECTOR)],
    ),
    (MICROVMS, "RunMicrovm", {"imageIdentifier": "web"}, [("lambda:RunMicrovm", IMAGE.replace("web", "*"))]),
    (
        MICROVMS,
        "CreateMicrovmImage",
        {"name": "web", "buildRoleArn": ROLE, "tags": {"a": "b"}},
        [("lambda:CreateMicrovmImage", IMAGE), (PASS, MANAGED_OUT), (PASS_ROLE, ROLE), ("lambda:TagResource", IMAGE)],
    ),
    (
        MICROVMS,
        "UpdateMicrovmImage",
        {"imageIdentifier": IMAGE, "buildRoleArn": ROLE, "egressNetworkConnectors": [OWN_CONNECTOR]},
        [("lambda:UpdateMicrovmImage", IMAGE), (PASS, OWN_CONNECTOR), (PASS_ROLE, ROLE)],
    ),
    (MICROVMS, "ListMicrovms", {"imageIdentifier": IMAGE}, [("lambda:ListMicrovms", "*")]),
    (MICROVMS, "TagResource", {"Resource": IMAGE, "Tags": {}}, [("lambda:TagResource", IMAGE)]),
    (
        CORE,
        "CreateNetworkConnector",
        {"Name": "x", "OperatorRole": ROLE, "Tags": {"a": "b"}},
        [("lambda:CreateNetworkConnector", "*"), (PASS_ROLE, ROLE), ("lambda:TagResource", "*")],
    ),
    (CORE, "GetNetworkConnector", {"Identifier": "mine"}, [("lambda:GetNetworkConnector", OWN_CONNECTOR)]),
    (
        CORE,
        "DeleteNetworkConnector",
        {"Identifier": f"{OWN_CONNECTOR}:7"},
        [("lambda:DeleteNetworkConnector", OWN_CONNECTOR)],
    ),
    (LOGS, "DescribeLogGroups", {}, [("logs:DescribeLogGroups", f"{LOG}:*")]),
    (LOGS, "FilterLogEvents", {"logGroupName": "/g"}, [("logs:FilterLogEvents", f"{LOG}:/g:*")]),
    (LOGS, "FilterLogEvents", {"logGroupIdentifier": f"{LOG}:/g:*"}, [("logs:FilterLogEvents", f"{LOG}:/g:*")]),
    (
        LOGS,
        "GetLogEvents",
        {"logGroupName": "/g", "logStreamName": "s"},
        [("logs:GetLogEvents", f"{LOG}:/g:log-stream:s")],
    ),
    (
        EMBERBOX,
        "PutPolicy",
        {"userName": "ann", "policyName": "p"},
        [("emberbox:PutPolicy", f"arn:aws:iam::{FIRST}:user/ann")],
    ),
    (
        EMBERBOX,
        "CreateAccessKey",
        {"userName": "ann", "accountId": SECOND},
        [("emberbox:CreateAccessKey", f"arn:aws:iam::{SECOND}:user/ann")],
    ),
    (
        EMBERBOX,
        "DeleteAccessKey",
        {"accessKeyId": "AKIA1"},
        [("emberbox:DeleteAccessKey", f"arn:aws:iam::{FIRST}:user/ann")],
    ),
    (EMBERBOX, "AssumeRole", {"roleName": "r"}, [("sts:AssumeRole", f"arn:aws:iam::{FIRST}:role/r")]),
    (EMBERBOX, "ListQuotas", {}, [("emberbox:ListQuotas", "*")]),
]


@pytest.mark.parametrize(("service", "operation", "parameters", "needed"), NEEDED)
def test_an_operation_needs_these_permissions(
    service: str, operation: str, parameters: dict[str, Any], needed: list[tuple[str, str]]
) -> None:
    found = PERMISSIONS.of(FIRST, service, operation, parameters)
    wanted = [Permission(*pair) for pair in needed]
    if operation == "RunMicrovm":
        assert found[: len(wanted)] == wanted
    else:
        assert found == wanted


@pytest.mark.parametrize("service", SERVICES)
def test_permissions_are_found_for_any_request_of_the_model(service: str) -> None:
    for name in operation_names(service):
        shape = load_operation(service, name).input_shape
        parameters = {} if shape is None else example(shape, random.Random(name))
        assert PERMISSIONS.of(FIRST, service, name, parameters)[0].action


def test_a_request_says_which_account_it_is_about() -> None:
    quotas = PERMISSIONS.request(FIRST, EMBERBOX, "ListQuotas", {"accountId": SECOND})
    assert quotas.account_id == SECOND
    assert PERMISSIONS.request(FIRST, EMBERBOX, "ListQuotas", {}).account_id is None


@pytest.mark.parametrize(
    ("parameters", "facts"),
    [
        ({}, {}),
        ({"tags": {"Team": "red"}}, {"aws:requesttag/team": ("red",), "aws:tagkeys": ("Team",)}),
        (
            {"Tags": {"a": "1", "b": "2"}},
            {"aws:requesttag/a": ("1",), "aws:requesttag/b": ("2",), "aws:tagkeys": ("a", "b")},
        ),
        ({"TagKeys": ["a", "b"]}, {"aws:tagkeys": ("a", "b")}),
        (
            {"Configuration": {"VpcEgressConfiguration": {"SubnetIds": ["s-1"], "SecurityGroupIds": ["g-1", "g-2"]}}},
            {"lambda:subnetids": ("s-1",), "lambda:securitygroupids": ("g-1", "g-2")},
        ),
    ],
)
def test_a_request_has_these_condition_keys(parameters: dict[str, Any], facts: dict[str, tuple[str, ...]]) -> None:
    assert request_facts(parameters) == facts
    assert PERMISSIONS.request(FIRST, MICROVMS, "ListMicrovms", parameters).facts == facts
