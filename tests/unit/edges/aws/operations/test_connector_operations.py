"""Network connectors on the wire: every member of every answer, those that are absent, errors and their order."""

from __future__ import annotations

from typing import Any

import pytest

from support.api_world import World
from support.control_plane import ROLE
from support.wire import KEY, REGION

CORE = "lambda-core"
ARN = f"arn:aws:lambda:{REGION}:{KEY.account_id}:network-connector"
VPC = {"SubnetIds": ["subnet-office"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}
INVALID = (400, "InvalidParameterValueException")


def configuration(**more: Any) -> dict[str, Any]:
    return {"VpcEgressConfiguration": {**VPC, **more}}


def request(**more: Any) -> dict[str, Any]:
    whole = {"Name": "office", "Configuration": configuration(), "OperatorRole": ROLE, "ClientToken": "first"}
    return {**whole, **more}


async def make(world: World, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a connector; return the answer, and what all answers about it have in common."""
    made = await world.ok(CORE, "CreateNetworkConnector", **request(**more))
    await world.plane.settle()
    return made, {"Arn": f"{ARN}:{made['Id']}", "Name": "office", "Id": made["Id"]}


def settled(answer: dict[str, Any]) -> dict[str, Any]:
    """Leave out when it was changed, which must be told."""
    assert answer["LastModified"].endswith("Z")
    return {name: value for name, value in answer.items() if name != "LastModified"}


async def test_every_member_of_every_answer(world: World) -> None:
    made, common = await make(world)
    arn = common["Arn"]
    first = {**common, "VersionArn": f"{arn}:1", "Version": 1, "Configuration": configuration(), "OperatorRole": ROLE}
    assert made == {**first, "State": "PENDING"}
    latest = {"LatestVersionArn": f"{arn}:1", "LatestVersion": 1}
    state = {"State": "ACTIVE", "StateReason": "Initial creation"}
    shown = {**common, "Configuration": configuration(), "OperatorRole": ROLE, **state}
    assert settled(await world.ok(CORE, "GetNetworkConnector", Identifier="office")) == {**shown, **latest}
    version = {"VersionArn": f"{arn}:1", "Version": 1}
    named = await world.ok(CORE, "GetNetworkConnector", Identifier=f"{arn}:1")
    assert settled(named) == {**shown, **version}
    (row,) = (await world.ok(CORE, "ListNetworkConnectors"))["NetworkConnectors"]
    assert settled(row) == {**common, "Type": "VPC_EGRESS", "State": "ACTIVE", **latest}
    (row,) = (await world.ok(CORE, "ListNetworkConnectorVersions", Identifier="office"))["NetworkConnectorVersions"]
    assert settled(row) == {**common, **version, **state}
    same = await world.ok(CORE, "UpdateNetworkConnector", Identifier="office")
    told = {"LastUpdateStatus": "Successful", "LastUpdateStatusReason": "No configuration changes detected"}
    assert settled(same) == {**first, "State": "ACTIVE", **told}
    lab = configuration(SubnetIds=["subnet-lab"])
    second = {**first, "VersionArn": f"{arn}:2", "Version": 2, "Configuration": lab}
    changed = await world.ok(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=lab)
    assert settled(changed) == {**second, "State": "ACTIVE", "LastUpdateStatus": "InProgress"}
    await world.plane.settle()
    deleted = await world.ok(CORE, "DeleteNetworkConnector", Identifier=f"{arn}:1")
    assert deleted == {**first, "State": "DELETING"}
    assert await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn) == {**second, "State": "DELETING"}


async def test_why_something_failed_is_told_of_connector_version_and_update(world: World) -> None:
    _, common = await make(world, Configuration=configuration(SecurityGroupIds=["sg-none2"]))
    why = {
        "StateReasonCode": "InvalidSecurityGroup",
        "StateReason": "sg-none2 is not defined in networks.toml of this server",
    }
    for identifier in ("office", f"{common['Arn']}:1"):
        shown = await world.ok(CORE, "GetNetworkConnector", Identifier=identifier)
        assert {name: shown[name] for name in why} == why
    (row,) = (await world.ok(CORE, "ListNetworkConnectorVersions", Identifier="office"))["NetworkConnectorVersions"]
    assert {name: row[name] for name in why} == why


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"SecurityGroupIds": []},
        {"SecurityGroupIds": ["sg-web", "sg-none"]},
        {"ElasticIpConfiguration": {"Type": "None"}},
        {"NetworkProtocol": "DualStack", "SubnetIds": ["subnet-office", "subnet-lab"]},
    ],
)
async def test_a_configuration_comes_back_as_it_was_given(world: World, more: dict[str, Any]) -> None:
    given = configuration(**more)
    made, _ = await make(world, Configuration=given)
    assert made["Configuration"] == given
    shown = await world.ok(CORE, "GetNetworkConnector", Identifier="office")
    assert shown["Configuration"] == given
    same = await world.ok(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=given)
    assert same["Version"] == 1


async def test_what_is_not_stated_is_not_what_is_stated_empty(world: World) -> None:
    await make(world)
    other = configuration(SecurityGroupIds=[])
    assert (await world.ok(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=other))["Version"] == 2


NEW = "CreateNetworkConnector"


@pytest.mark.parametrize(
    ("operation", "parameters", "text"),
    [
        (
            NEW,
            request(Configuration=configuration(AssociatedComputeResourceTypes=["WebFunction"])),
            "AssociatedComputeResourceTypes can only be [MicroVm] here: there are no functions",
        ),
        (
            NEW,
            request(Configuration=configuration(ElasticIpConfiguration={"Type": "ServiceManaged"})),
            "ElasticIpConfiguration can only have the Type None here: there are no Elastic IPs",
        ),
        (NEW, {"Name": "a", "Configuration": {"VpcEgressConfiguration": {}}}, "ClientToken is a required field"),
        ("GetNetworkConnector", {"Identifier": "arn:nothing"}, "Malformed network connector ARN"),
        ("GetNetworkConnector", {"Identifier": f"{ARN}:a b"}, "Malformed network connector ARN"),
        ("ListNetworkConnectorVersions", {"Identifier": "arn:a", "Marker": "x"}, "Malformed network connector ARN"),
        ("UpdateNetworkConnector", {"Identifier": f"{ARN}:a:0"}, "Malformed network connector ARN"),
        ("DeleteNetworkConnector", {"Identifier": f"{ARN}:"}, "Malformed network connector ARN"),
    ],
)
async def test_what_is_refused(world: World, operation: str, parameters: dict[str, Any], text: str) -> None:
    status, _, told = await world.refused(CORE, operation, **parameters)
    assert status == 400
    assert told.startswith(text)


async def test_the_token_is_looked_at_before_the_request(world: World) -> None:
    await make(world)
    bad = {"Name": "office", "Configuration": {"VpcEgressConfiguration": {}}, "ClientToken": "first"}
    assert await world.refused(CORE, NEW, **bad) == (
        409,
        "ResourceConflictException",
        "The clientToken was used before with other parameters; use a new one.",
    )


async def test_a_connector_is_looked_for_before_anything_else(world: World) -> None:
    missing = (404, "ResourceNotFoundException", f"Network connector not found for: {ARN}:no")
    for operation, more in (
        ("ListNetworkConnectorVersions", {"Marker": "x"}),
        ("UpdateNetworkConnector", {"Configuration": {"VpcEgressConfiguration": {}}}),
        ("DeleteNetworkConnector", {}),
    ):
        assert await world.refused(CORE, operation, Identifier="no", **more) == missing
    foreign = f"arn:aws:lambda:eu-west-1:{KEY.account_id}:network-connector:no"
    refused = await world.refused(CORE, "DeleteNetworkConnector", Identifier=foreign)
    assert refused == (403, "AccessDeniedException", f"User is not authorized to access this resource: {foreign}")


async def test_an_update_that_is_refused_says_why(world: World) -> None:
    _, common = await make(world)
    lab = configuration(SubnetIds=["subnet-lab"])
    without = {"VpcEgressConfiguration": {"SubnetIds": ["subnet-lab"]}}
    refused = await world.refused(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=without)
    assert refused == (*INVALID, "NetworkProtocol cannot be null or empty for VPC_EGRESS connector")
    await world.ok(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=lab, ClientToken="u")
    busy = (409, "ResourceConflictException", f"An update is in progress for the network connector: {common['Arn']}")
    other = configuration(SecurityGroupIds=[])
    assert await world.refused(CORE, "UpdateNetworkConnector", Identifier="office", Configuration=other) == busy
    qualified = {"Identifier": f"{common['Arn']}:1"}
    text = "A version cannot be updated: name the network connector without one"
    assert await world.refused(CORE, "UpdateNetworkConnector", **qualified) == (*INVALID, text)
    text = "The latest version cannot be deleted; delete the network connector instead"
    refused = await world.refused(CORE, "DeleteNetworkConnector", **qualified)
    assert refused == (409, "ResourceConflictException", text)
