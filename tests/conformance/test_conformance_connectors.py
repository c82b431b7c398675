"""Network connectors of lambda-core by unmodified boto3: states, versions, lists, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.session import get_session

from support.aws import Clients, refusal
from support.images import BUILD_ROLE, unique
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

NETWORKS = """
[subnet-one]
cidrs = ["192.168.77.0/24"]
[subnet-two]
cidrs = ["192.168.78.0/24"]
[sg-any]
allow = ["all 0.0.0.0/0"]
"""


def configuration(*subnets: str) -> dict[str, Any]:
    return {
        "VpcEgressConfiguration": {
            "SubnetIds": list(subnets),
            "SecurityGroupIds": ["sg-any"],
            "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        }
    }


@pytest.fixture(scope="module", autouse=True)
def networks(server: Server) -> Iterator[None]:
    path = server.home / "networks.toml"
    path.write_text(NETWORKS)
    yield
    path.unlink()


def create(clients: Clients, *subnets: str) -> dict[str, Any]:
    made: dict[str, Any] = clients.core.create_network_connector(
        Name=unique("connector"), Configuration=configuration(*subnets), OperatorRole=BUILD_ROLE
    )
    return made


def wait_settled(clients: Clients, arn: str) -> dict[str, Any]:
    """Wait until a connector is neither made nor changed."""

    def settled() -> dict[str, Any] | None:
        found: dict[str, Any] = clients.core.get_network_connector(Identifier=arn)
        return None if found["State"] == "PENDING" or found.get("LastUpdateStatus") == "InProgress" else found

    return wait_for("the connector has settled", settled, 20)


def wait_gone(clients: Clients, arn: str) -> None:
    def is_gone() -> bool:
        try:
            clients.core.get_network_connector(Identifier=arn)
        except clients.core.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_for("the connector is gone", is_gone, 20)


def test_every_connector_operation_has_a_case_here() -> None:
    """What the model gains must get its place in this module."""
    names = {name for name in get_session().get_service_model("lambda-core").operation_names if "Connector" in name}
    assert names == {
        "CreateNetworkConnector",
        "DeleteNetworkConnector",
        "GetNetworkConnector",
        "ListNetworkConnectorVersions",
        "ListNetworkConnectors",
        "UpdateNetworkConnector",
    }


@pytest.mark.rule(
    "CreateNetworkConnector",
    "DeleteNetworkConnector",
    "GetNetworkConnector",
    "ListNetworkConnectorVersions",
    "ListNetworkConnectors",
    "UpdateNetworkConnector",
)
def test_the_whole_life_of_a_connector(clients: Clients) -> None:
    """It is PENDING, then ACTIVE; a change makes the next version; old versions and the whole are deleted (202)."""
    client = clients.core
    made = create(clients, "subnet-one")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (made["State"], made["Version"]) == ("PENDING", 1)
    arn, name = made["Arn"], made["Name"]
    assert arn == f"arn:aws:lambda:us-east-1:000000000000:network-connector:{made['Id']}"
    active = wait_settled(clients, arn)
    assert (active["State"], active["LatestVersion"], active["Name"]) == ("ACTIVE", 1, name)
    assert active["StateReason"] == "Initial creation"
    assert client.get_network_connector(Identifier=name)["Arn"] == arn

    changed = client.update_network_connector(Identifier=name, Configuration=configuration("subnet-two"))
    assert (changed["State"], changed["LastUpdateStatus"]) == ("ACTIVE", "InProgress")
    updated = wait_settled(clients, arn)
    assert (updated["LastUpdateStatus"], updated["LatestVersionArn"]) == ("Successful", f"{arn}:2")
    assert updated["Configuration"] == configuration("subnet-two")
    first = client.get_network_connector(Identifier=f"{arn}:1")
    assert (first["Version"], first["Configuration"]) == (1, configuration("subnet-one"))
    same = client.update_network_connector(Identifier=name, Configuration=configuration("subnet-two"))
    assert same["LastUpdateStatusReason"] == "No configuration changes detected"

    versions = client.list_network_connector_versions(Identifier=arn)["NetworkConnectorVersions"]
    assert [row["Version"] for row in versions] == [2, 1]
    assert refusal(client.delete_network_connector, Identifier=f"{arn}:2")[:2] == (409, "ResourceConflictException")
    assert client.delete_network_connector(Identifier=f"{arn}:1")["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert arn in [row["Arn"] for row in client.list_network_connectors(State="ACTIVE")["NetworkConnectors"]]
    assert client.delete_network_connector(Identifier=arn)["State"] == "DELETING"
    wait_gone(clients, arn)


@pytest.mark.rule("GetNetworkConnector", "UpdateNetworkConnector")
def test_an_undefined_subnet_fails_a_connector_and_not_a_working_one(clients: Clients) -> None:
    """A new connector is FAILED with InvalidSubnet; a failed update leaves an ACTIVE one as it was."""
    failed = wait_settled(clients, create(clients, "subnet-missing")["Arn"])
    assert (failed["State"], failed["StateReasonCode"]) == ("FAILED", "InvalidSubnet")
    arn = wait_settled(clients, create(clients, "subnet-one")["Arn"])["Arn"]
    clients.core.update_network_connector(Identifier=arn, Configuration=configuration("subnet-missing"))
    kept = wait_settled(clients, arn)
    assert (kept["State"], kept["LastUpdateStatus"]) == ("ACTIVE", "Failed")
    assert kept["LastUpdateStatusReasonCode"] == "InvalidSubnet"
    assert kept["Configuration"] == configuration("subnet-one")
    for one in (failed["Arn"], arn):
        clients.core.delete_network_connector(Identifier=one)
        wait_gone(clients, one)


@pytest.mark.rule("CreateNetworkConnector", "GetNetworkConnector")
def test_refusals_have_the_services_codes_and_texts(clients: Clients) -> None:
    """Required in practice though optional in the model: OperatorRole. A 404 names the ARN of what was asked for.

    No body has more than the text.
    """
    text = "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"
    refused = refusal(
        clients.core.create_network_connector, Name=unique("refused"), Configuration=configuration("subnet-one")
    )
    assert refused == (400, "InvalidParameterValueException", text)
    arn = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-missing"
    missing = (404, "ResourceNotFoundException", f"Network connector not found for: {arn}")
    for identifier in ("nc-missing", arn):
        assert refusal(clients.core.get_network_connector, Identifier=identifier) == missing
    bodies: list[bytes] = []
    clients.core.meta.events.register_first(
        "before-parse.lambda-core.GetNetworkConnector", lambda response_dict, **_: bodies.append(response_dict["body"])
    )
    refusal(clients.core.get_network_connector, Identifier=arn)
    assert bodies == [b'{"Message":"Network connector not found for: %s"}' % arn.encode()]


@pytest.mark.rule("ListNetworkConnectors")
def test_connector_lists_are_paged_by_markers(clients: Clients) -> None:
    """Pages of one give each connector once; the last page has no NextMarker."""
    made = [create(clients, "subnet-one")["Arn"] for _ in range(3)]
    for arn in made:
        wait_settled(clients, arn)
    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = clients.core.list_network_connectors(MaxItems=1, **more)
        seen += [row["Arn"] for row in page["NetworkConnectors"]]
        if "NextMarker" not in page:
            break
        more = {"Marker": page["NextMarker"]}
    assert set(made) <= set(seen)
    assert len(set(seen)) == len(seen)
    for arn in made:
        clients.core.delete_network_connector(Identifier=arn)
        wait_gone(clients, arn)


@pytest.mark.rule("TagResource", "UntagResource", "ListTags")
def test_connectors_are_tagged_like_images(clients: Clients) -> None:
    """The tag operations take a connector's ARN too."""
    arn = wait_settled(clients, create(clients, "subnet-one")["Arn"])["Arn"]
    clients.microvms.tag_resource(Resource=arn, Tags={"team": "blue", "tier": "1"})
    clients.microvms.untag_resource(Resource=arn, TagKeys=["tier"])
    assert clients.microvms.list_tags(Resource=arn)["Tags"] == {"team": "blue"}
    clients.core.delete_network_connector(Identifier=arn)
    wait_gone(clients, arn)


def test_runtimes_are_not_here_and_say_so(clients: Clients) -> None:
    """The rest of lambda-core is answered in AWS's form, with a code that no SDK repeats."""
    refused = refusal(clients.core.list_runtimes)
    assert refused == (501, "NotImplementedException", "ListRuntimes is not supported yet by Emberbox")
