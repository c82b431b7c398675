"""Network connectors: what is told, refused and remembered (the dossier's section 8.2), over the real wire layer."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from emberbox.model.arns import managed_connector_arn
from emberbox.model.egress import NO_EGRESS, EgressPolicy, EgressRule
from emberbox.model.errors import HostError
from emberbox.model.states import ConnectorState
from support.api_world import World
from support.control_plane import ROLE
from support.wire import KEY, REGION

CORE = "lambda-core"
ARN = f"arn:aws:lambda:{REGION}:{KEY.account_id}:network-connector"


def configuration(subnets: tuple[str, ...] = ("subnet-office",), groups: tuple[str, ...] = ("sg-web",)) -> Any:
    return {
        "VpcEgressConfiguration": {
            "SubnetIds": list(subnets),
            "SecurityGroupIds": list(groups),
            "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        }
    }


def request(name: str = "office", **more: Any) -> dict[str, Any]:
    token = f"token-of-{name}"
    return {"Name": name, "Configuration": configuration(), "OperatorRole": ROLE, "ClientToken": token, **more}


async def make(world: World, name: str = "office", **more: Any) -> str:
    """Create a connector and return its ARN once it has settled."""
    made = await world.ok(CORE, "CreateNetworkConnector", **request(name, **more))
    await world.plane.settle()
    return str(made["Arn"])


async def get(world: World, identifier: str) -> dict[str, Any]:
    return await world.ok(CORE, "GetNetworkConnector", Identifier=identifier)


async def test_a_connector_is_pending_and_then_active(world: World) -> None:
    answer = await world.send(CORE, "CreateNetworkConnector", **request())
    assert answer.status == 202
    made = await world.ok(CORE, "CreateNetworkConnector", **request())  # the same token: the same connector
    assert made["State"] == "PENDING"
    assert re.fullmatch(rf"{ARN}:nc-[0-9a-f-]{{36}}", made["Arn"])
    assert made["Arn"].endswith(made["Id"])
    assert (made["Configuration"], made["OperatorRole"]) == (configuration(), ROLE)
    pending = await get(world, "office")
    assert (pending["State"], pending["StateReason"]) == ("PENDING", "Initial creation")
    await world.plane.settle()
    active = await get(world, "office")
    assert (active["State"], active["LatestVersion"]) == ("ACTIVE", 1)
    assert active["LatestVersionArn"] == f"{made['Arn']}:1"
    assert datetime.fromisoformat(active["LastModified"]).tzinfo is not None
    assert active["StateReason"] == "Initial creation"
    for absent in ("StateReasonCode", "LastUpdateStatus", "Version", "VersionArn", "Type"):
        assert absent not in active


async def test_a_connector_is_named_by_id_name_arn_and_version(world: World) -> None:
    arn = await make(world)
    for identifier in ("office", arn, arn.rpartition(":")[2]):
        assert (await get(world, identifier))["Arn"] == arn
    version = await get(world, f"{arn}:1")
    assert (version["Version"], version["VersionArn"]) == (1, f"{arn}:1")
    assert "LatestVersion" not in version
    for missing in ("missing", f"{ARN}:nc-missing", f"{arn}:7"):
        told = missing if missing.startswith("arn:") else f"{ARN}:{missing}"
        assert await world.refused(CORE, "GetNetworkConnector", Identifier=missing) == (
            404,
            "ResourceNotFoundException",
            f"Network connector not found for: {told}",
        )
    foreign = arn.replace(KEY.account_id, "111111111111")
    assert (await world.refused(CORE, "GetNetworkConnector", Identifier=foreign))[:2] == (403, "AccessDeniedException")


async def test_a_404_spells_its_text_with_a_capital_and_leaves_nulls_out(world: World) -> None:
    answer = await world.send(CORE, "GetNetworkConnector", Identifier="missing")
    assert b'"Message":"Network connector not found' in answer.body
    assert b"null" not in answer.body
    assert b"NextMarker" not in (await world.send(CORE, "ListNetworkConnectors")).body


@pytest.mark.parametrize(
    ("subnets", "groups", "code", "name"),
    [
        (("subnet-office", "subnet-none"), (), "InvalidSubnet", "subnet-none"),
        (("subnet-office",), ("sg-web", "sg-missing"), "InvalidSecurityGroup", "sg-missing"),
    ],
)
async def test_what_the_operator_has_not_defined_fails(
    world: World, subnets: tuple[str, ...], groups: tuple[str, ...], code: str, name: str
) -> None:
    await make(world, Configuration=configuration(subnets, groups))
    failed = await get(world, "office")
    assert (failed["State"], failed["StateReasonCode"]) == ("FAILED", code)
    assert failed["StateReason"] == f"{name} is not defined in networks.toml of this server"


async def test_a_file_that_cannot_be_read_fails_the_connector_and_says_where(world: World) -> None:
    (world.plane.directory / "networks.toml").write_text("[subnet-office]\ncidrs = ['300.0.0.0/8']\n")
    await make(world)
    failed = await get(world, "office")
    assert (failed["State"], failed["StateReasonCode"]) == ("FAILED", "InternalError")
    assert "networks.toml, [subnet-office]" in failed["StateReason"]


def without(*path: str) -> dict[str, Any]:
    whole = request("refused")
    place = whole
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return whole


VPC = ("Configuration", "VpcEgressConfiguration")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (without("ClientToken"), "ClientToken is a required field"),
        (without("OperatorRole"), "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"),
        (without(*VPC, "NetworkProtocol"), "NetworkProtocol cannot be null or empty for VPC_EGRESS connector"),
        (without(*VPC, "SubnetIds"), "SubnetIds is a required field"),
        (
            without(*VPC, "AssociatedComputeResourceTypes"),
            "AssociatedComputeResourceTypes is required for VPC_EGRESS connector type",
        ),
        (request(f"{ARN}:nc-1", ClientToken="x"), "Name must be a name of up to 64 characters, and no ARN"),
        (request(Tags={"aws:x": "y"}), "Tag key 'aws:x' is reserved: keys must not begin with aws:"),
    ],
)
async def test_a_bad_request_is_refused_and_leaves_nothing(world: World, parameters: Any, text: str) -> None:
    refused = await world.refused(CORE, "CreateNetworkConnector", **parameters)
    assert refused == (400, "InvalidParameterValueException", text)
    assert (await world.ok(CORE, "ListNetworkConnectors"))["NetworkConnectors"] == []


async def test_the_models_constraints_come_first_in_their_own_code(world: World) -> None:
    bad = configuration(("subnet-UPPER",)) | {}
    status, code, text = await world.refused(CORE, "CreateNetworkConnector", **request("x", Configuration=bad))
    assert (status, code) == (400, "ValidationException")
    assert "'configuration.vpcEgressConfiguration.subnetIds'" in text


async def test_a_taken_name_and_a_used_token_are_conflicts(world: World) -> None:
    await make(world)
    conflict = (409, "ResourceConflictException")
    other = request("office", ClientToken="another")
    assert (await world.refused(CORE, "CreateNetworkConnector", **other))[:2] == conflict
    reused = request("lab", ClientToken="token-of-office")
    assert (await world.refused(CORE, "CreateNetworkConnector", **reused))[:2] == conflict


async def update(world: World, **more: Any) -> dict[str, Any]:
    answer = await world.ok(CORE, "UpdateNetworkConnector", Identifier="office", **more)
    await world.plane.settle()
    return answer


async def test_an_update_makes_a_version_that_counts_once_it_is_good(world: World) -> None:
    arn = await make(world)
    lab = configuration(("subnet-lab",), ())
    answer = await update(world, Configuration=lab)
    assert (answer["State"], answer["LastUpdateStatus"], answer["Version"]) == ("ACTIVE", "InProgress", 2)
    updated = await get(world, "office")
    assert (updated["LastUpdateStatus"], updated["LatestVersion"]) == ("Successful", 2)
    assert updated["Configuration"] == lab
    assert (await get(world, f"{arn}:1"))["Configuration"] == configuration()

    await update(world, Configuration=configuration(("subnet-gone",)))
    failed = await get(world, "office")
    assert (failed["State"], failed["LastUpdateStatus"]) == ("ACTIVE", "Failed")
    assert failed["LastUpdateStatusReasonCode"] == "InvalidSubnet"
    assert (failed["LatestVersion"], failed["Configuration"]) == (2, lab)
    listed = (await world.ok(CORE, "ListNetworkConnectorVersions", Identifier="office"))["NetworkConnectorVersions"]
    assert [(row["Version"], row["State"]) for row in listed] == [(3, "FAILED"), (2, "ACTIVE"), (1, "ACTIVE")]

    same = await update(world, Configuration=lab, OperatorRole=ROLE)
    assert (same["LastUpdateStatus"], same["Version"]) == ("Successful", 2)
    assert same["LastUpdateStatusReason"] == "No configuration changes detected"


async def test_only_an_active_connector_is_updated_and_one_update_at_a_time(world: World) -> None:
    await make(world, "failed", Configuration=configuration(("subnet-none",)))
    arn = await make(world)
    conflict = (409, "ResourceConflictException")
    assert (await world.refused(CORE, "UpdateNetworkConnector", Identifier="failed"))[:2] == conflict
    first = {"Identifier": "office", "Configuration": configuration(("subnet-lab",)), "ClientToken": "first"}
    again = await world.ok(CORE, "UpdateNetworkConnector", **first)
    assert await world.ok(CORE, "UpdateNetworkConnector", **first) == again
    other = first | {"ClientToken": "other", "Configuration": configuration(("subnet-office",), ())}
    assert (await world.refused(CORE, "UpdateNetworkConnector", **other))[:2] == conflict
    await world.plane.settle()
    qualified = await world.refused(CORE, "UpdateNetworkConnector", Identifier=f"{arn}:1")
    assert qualified[:2] == (400, "InvalidParameterValueException")


async def test_old_versions_are_deleted_one_by_one_and_the_latest_never(world: World) -> None:
    arn = await make(world)
    await update(world, Configuration=configuration(("subnet-lab",)))
    refused = await world.refused(CORE, "DeleteNetworkConnector", Identifier=f"{arn}:2")
    assert refused[:2] == (409, "ResourceConflictException")
    assert (await world.send(CORE, "DeleteNetworkConnector", Identifier=f"{arn}:1")).status == 202
    assert (await world.refused(CORE, "GetNetworkConnector", Identifier=f"{arn}:1"))[0] == 404
    assert (await get(world, "office"))["LatestVersion"] == 2


async def test_deleting_is_visible_repeatable_and_frees_the_name(world: World) -> None:
    arn = await make(world)
    for _ in range(2):
        assert (await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn))["State"] == "DELETING"
    assert (await get(world, "office"))["State"] == "DELETING"
    taken = await world.refused(CORE, "CreateNetworkConnector", **request("office", ClientToken="second"))
    assert taken[0] == 409
    await world.plane.settle()
    assert (await world.refused(CORE, "GetNetworkConnector", Identifier=arn))[0] == 404
    await make(world, "office", ClientToken="second")


async def test_a_connector_that_is_being_made_is_not_deleted(world: World) -> None:
    made = await world.ok(CORE, "CreateNetworkConnector", **request())
    refused = await world.refused(CORE, "DeleteNetworkConnector", Identifier=made["Arn"])
    assert refused[:2] == (409, "ResourceConflictException")


async def test_what_a_killed_server_left_is_finished(world: World) -> None:
    made = await world.ok(CORE, "CreateNetworkConnector", **request())
    deleted = await make(world, "deleted")
    world.plane.connectors.begin_to_delete(deleted.rpartition(":")[2], datetime.now().astimezone())
    world.plane.connector_service.finish_unsettled()
    await world.plane.settle()
    assert (await get(world, made["Arn"]))["State"] == "ACTIVE"
    assert (await world.refused(CORE, "GetNetworkConnector", Identifier=deleted))[0] == 404


async def test_lists_are_paged_and_filtered_by_state(world: World) -> None:
    for name in ("a", "b", "c"):
        await make(world, name)
    await make(world, "failed", Configuration=configuration(("subnet-none",)))
    seen, more = [], {}
    while True:
        page = await world.ok(CORE, "ListNetworkConnectors", State="ACTIVE", MaxItems=2, **more)
        seen += [row["Name"] for row in page["NetworkConnectors"]]
        assert all(row["Type"] == "VPC_EGRESS" for row in page["NetworkConnectors"])
        if "NextMarker" not in page:
            break
        more = {"Marker": page["NextMarker"]}
    assert sorted(seen) == ["a", "b", "c"]
    assert (await world.refused(CORE, "ListNetworkConnectors", Marker="nonsense"))[:2] == (
        400,
        "InvalidParameterValueException",
    )


async def test_versions_are_paged(world: World) -> None:
    await make(world)
    for groups in ((), ("sg-none",)):
        await update(world, Configuration=configuration(groups=groups))
    first = await world.ok(CORE, "ListNetworkConnectorVersions", Identifier="office", MaxItems=2)
    rest = await world.ok(CORE, "ListNetworkConnectorVersions", Identifier="office", Marker=first["NextMarker"])
    found = [row["Version"] for page in (first, rest) for row in page["NetworkConnectorVersions"]]
    assert found == [3, 2, 1]
    assert "NextMarker" not in rest


async def test_connectors_have_tags(world: World) -> None:
    arn = await make(world, Tags={"team": "red"})
    tags = "lambda-microvms"
    assert (await world.ok(tags, "ListTags", Resource=arn))["Tags"] == {"team": "red"}
    assert (await world.send(tags, "TagResource", Resource=arn, Tags={"a": "b"})).status == 204
    assert (await world.send(tags, "UntagResource", Resource=arn, TagKeys=["team"])).status == 204
    assert (await world.ok(tags, "ListTags", Resource=arn))["Tags"] == {"a": "b"}


async def test_runtimes_are_not_supported_and_say_so(world: World) -> None:
    refused = await world.refused(CORE, "ListRuntimes")
    assert refused == (501, "NotImplementedException", "ListRuntimes is not supported yet by Emberbox")


# --- connectors in use


async def run(world: World, *arns: str) -> tuple[int, str, str]:
    image = world.plane.images.find(f"arn:aws:lambda:{REGION}:{KEY.account_id}:microvm-image:web")
    image = image or world.plane.add_image("web")
    return await world.refused(
        "lambda-microvms", "RunMicrovm", imageIdentifier=image.arn, egressNetworkConnectors=list(arns)
    )


async def test_a_launch_takes_active_connectors_of_its_own_account_only(world: World) -> None:
    arn = await make(world)
    failed = await make(world, "failed", Configuration=configuration(("subnet-none",)))
    assert (await run(world, arn))[0] == 200
    assert (await run(world, f"{arn}:1"))[0] == 200
    assert (await run(world, "office"))[1:] == ("ValidationException", "Malformed network connector ARN")
    state = f"Network connector {failed} is in state FAILED; it must be ACTIVE"
    assert (await run(world, failed))[1:] == ("ValidationException", state)
    missing = f"{ARN}:nc-missing"
    assert await run(world, missing) == (
        404,
        "ResourceNotFoundException",
        f"Network connector not found for: {missing}",
    )
    assert (await run(world, arn.replace(KEY.account_id, "111111111111")))[1] == "AccessDeniedException"
    no_egress = managed_connector_arn(REGION, "NO_EGRESS")
    assert (await run(world, no_egress))[2] == f"Unrecognized managed network connector ARN: {no_egress}"


def policy(world: World, arn: str) -> EgressPolicy | None:
    return world.plane.egress.policy(KEY.account_id, [arn])


async def test_a_policy_is_what_subnets_reach_as_far_as_groups_allow(world: World) -> None:
    arn = await make(world)
    rules = (EgressRule("192.168.10.0/24", "tcp", (443, 443)), EgressRule("0.0.0.0/0", "icmp"))
    assert policy(world, arn) == EgressPolicy(("192.168.0.0/16",), False, rules, "192.168.10.53")
    await update(world, Configuration=configuration(("subnet-lab",), ()))
    assert policy(world, arn) == EgressPolicy(("172.16.5.0/24",), False, None, None)
    assert policy(world, f"{arn}:1") == EgressPolicy(("192.168.0.0/16",), False, rules, "192.168.10.53")
    assert policy(world, managed_connector_arn(REGION, "INTERNET_EGRESS")) is None


async def test_without_its_connector_a_microvm_reaches_nothing(world: World) -> None:
    arn = await make(world)
    await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn)
    assert policy(world, arn) == NO_EGRESS
    await world.plane.settle()
    assert policy(world, arn) == NO_EGRESS


async def test_a_subnet_that_vanished_from_the_file_is_an_error_and_no_open_door(world: World) -> None:
    arn = await make(world)
    (world.plane.directory / "networks.toml").unlink()
    with pytest.raises(HostError, match="subnet-office is not defined"):
        policy(world, arn)


async def test_an_egress_that_cannot_be_cut_keeps_its_connector(world: World) -> None:
    arn = await make(world)

    async def fail(_arn: str) -> None:
        raise HostError("nft is gone")

    world.plane.connector_service._on_change = fail
    await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn)
    await world.plane.settle()
    failed = await get(world, arn)
    assert (failed["State"], failed["StateReason"]) == (ConnectorState.DELETE_FAILED, "nft is gone")
