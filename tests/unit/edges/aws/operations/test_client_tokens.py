"""Client tokens live as long as what they made, in every operation (docs/decisions/0031-answers-as-recorded.md)."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.model.arns import managed_image_arn
from emberbox.spec.models import CORE, MICROVMS
from support.api_world import World
from support.control_plane import ROLE
from support.wire import KEY, REGION

LEAST = {
    "baseImageArn": managed_image_arn(REGION, "debian12-1"),
    "buildRoleArn": ROLE,
    "codeArtifact": {"uri": "s3://code/key"},
}
TOKEN = {"clientToken": "fixed"}
REUSED = "The clientToken was used before with other parameters; use a new one."


def connector(*groups: str) -> dict[str, Any]:
    return {
        "VpcEgressConfiguration": {
            "SubnetIds": ["subnet-office"],
            "SecurityGroupIds": list(groups),
            "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        }
    }


async def ok(world: World, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
    """Send a request that must succeed; return the answer when what it began has ended."""
    answer = await world.ok(service, operation, **parameters)
    await world.plane.settle()
    return answer


@pytest.mark.parametrize("again", [{}, {"description": "other"}], ids=["the same", "other parameters"])
async def test_the_token_of_an_image_that_is_gone_makes_another(world: World, again: dict[str, Any]) -> None:
    asked = {"name": "web", **LEAST, **TOKEN}
    first = await ok(world, MICROVMS, "CreateMicrovmImage", **asked)
    await ok(world, MICROVMS, "DeleteMicrovmImage", imageIdentifier=first["imageArn"])
    second = await ok(world, MICROVMS, "CreateMicrovmImage", **asked | again)
    assert second["id"] != first["id"]
    assert (await ok(world, MICROVMS, "CreateMicrovmImage", **asked | again))["id"] == second["id"]


async def test_the_token_of_an_image_without_its_first_version_does_not_make_a_second(world: World) -> None:
    asked = {"name": "web", **LEAST, **TOKEN}
    arn = (await ok(world, MICROVMS, "CreateMicrovmImage", **asked))["imageArn"]
    await ok(world, MICROVMS, "UpdateMicrovmImage", imageIdentifier=arn, **LEAST)
    await ok(world, MICROVMS, "DeleteMicrovmImageVersion", imageIdentifier=arn, imageVersion="1.0")
    taken = (400, "ValidationException", "A MicroVM image with the name 'web' already exists in this account")
    assert await world.refused(MICROVMS, "CreateMicrovmImage", **asked) == taken


async def test_the_token_of_a_version_that_is_gone_makes_another(world: World) -> None:
    image = world.plane.add_image("web")
    asked = {"imageIdentifier": image.arn, **LEAST, **TOKEN}
    assert (await ok(world, MICROVMS, "UpdateMicrovmImage", **asked))["imageVersion"] == "2.0"
    assert (await ok(world, MICROVMS, "UpdateMicrovmImage", **asked))["imageVersion"] == "2.0"
    await ok(world, MICROVMS, "UpdateMicrovmImage", imageIdentifier=image.arn, **LEAST)
    await ok(world, MICROVMS, "DeleteMicrovmImageVersion", imageIdentifier=image.arn, imageVersion="2.0")
    assert (await ok(world, MICROVMS, "UpdateMicrovmImage", **asked))["imageVersion"] == "4.0"


async def test_a_version_of_an_image_of_that_name_before_is_not_taken_for_the_present_ones(world: World) -> None:
    arn = world.plane.add_image("web").arn
    asked = {"imageIdentifier": arn, **LEAST, **TOKEN}
    await ok(world, MICROVMS, "UpdateMicrovmImage", **asked)
    await ok(world, MICROVMS, "DeleteMicrovmImage", imageIdentifier=arn)
    world.plane.add_image("web", versions=2)
    assert (await ok(world, MICROVMS, "UpdateMicrovmImage", **asked))["imageVersion"] == "3.0"


async def test_what_a_server_of_before_noted_of_a_version_counts(world: World) -> None:
    asked = {"imageIdentifier": world.plane.add_image("web").arn, **LEAST, **TOKEN}
    await ok(world, MICROVMS, "UpdateMicrovmImage", **asked)
    with world.plane.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE client_tokens SET resource_id = '2.0'")
    assert (await ok(world, MICROVMS, "UpdateMicrovmImage", **asked))["imageVersion"] == "2.0"


async def test_the_token_of_a_microvm_counts_until_it_is_told_of_no_more(world: World) -> None:
    image = world.plane.add_image("web")
    asked = {"imageIdentifier": image.arn, **TOKEN}
    first = await ok(world, MICROVMS, "RunMicrovm", **asked)
    again = await ok(world, MICROVMS, "RunMicrovm", **asked)
    assert (again["microvmId"], again["state"]) == (first["microvmId"], "TERMINATED")
    assert (await world.refused(MICROVMS, "RunMicrovm", **asked, maximumDurationInSeconds=60))[2] == REUSED
    world.plane.microvm_service.forget_terminated(0)
    assert (await ok(world, MICROVMS, "RunMicrovm", **asked))["microvmId"] != first["microvmId"]


async def test_the_token_of_a_connector_that_is_gone_makes_another(world: World) -> None:
    asked = {"Name": "office", "Configuration": connector(), "OperatorRole": ROLE, "ClientToken": "fixed"}
    first = await ok(world, CORE, "CreateNetworkConnector", **asked)
    await ok(world, CORE, "DeleteNetworkConnector", Identifier="office")
    second = await ok(world, CORE, "CreateNetworkConnector", **asked)
    assert second["Id"] != first["Id"]
    assert (await ok(world, CORE, "CreateNetworkConnector", **asked))["Id"] == second["Id"]


async def test_the_token_of_a_connectors_version_that_is_gone_makes_another(world: World) -> None:
    whole = {"Name": "office", "Configuration": connector(), "OperatorRole": ROLE, "ClientToken": "fixed"}
    arn = (await ok(world, CORE, "CreateNetworkConnector", **whole))["Arn"]
    asked = {"Identifier": "office", "Configuration": connector("sg-web"), "ClientToken": "fixed"}
    for _ in range(2):
        assert (await ok(world, CORE, "UpdateNetworkConnector", **asked))["Version"] == 2
    other = connector("sg-none")
    assert (await ok(world, CORE, "UpdateNetworkConnector", Identifier="office", Configuration=other))["Version"] == 3
    await ok(world, CORE, "DeleteNetworkConnector", Identifier=f"{arn}:2")
    assert (await ok(world, CORE, "UpdateNetworkConnector", **asked))["Version"] == 4
    with world.plane.database.transaction() as connection:  # as a server of before noted it
        connection.exec_driver_sql(
            "UPDATE client_tokens SET resource_id = '4' WHERE operation = 'UpdateNetworkConnector'"
        )
    assert (await ok(world, CORE, "UpdateNetworkConnector", **asked))["Version"] == 4


async def test_a_connector_of_that_name_before_is_not_taken_for_the_present_one(world: World) -> None:
    whole = {"Name": "office", "Configuration": connector(), "OperatorRole": ROLE, "ClientToken": "fixed"}
    asked = {"Identifier": "office", "Configuration": connector("sg-web"), "ClientToken": "fixed"}
    for _ in range(2):
        await ok(world, CORE, "CreateNetworkConnector", **whole)
        await ok(world, CORE, "UpdateNetworkConnector", Identifier="office", Configuration=connector("sg-none"))
        assert (await ok(world, CORE, "UpdateNetworkConnector", **asked))["Version"] == 3
        await ok(world, CORE, "DeleteNetworkConnector", Identifier="office")


async def test_what_is_being_deleted_is_not_shown_for_what_was_asked_for(world: World) -> None:
    asked = {"name": "web", **LEAST, **TOKEN}
    arn = (await ok(world, MICROVMS, "CreateMicrovmImage", **asked))["imageArn"]
    update = {"imageIdentifier": arn, **LEAST, **TOKEN}
    await ok(world, MICROVMS, "UpdateMicrovmImage", **update)
    await world.ok(MICROVMS, "DeleteMicrovmImageVersion", imageIdentifier=arn, imageVersion="2.0")
    busy = (400, "ValidationException", f"Cannot update MicroVM Image in its current state: {arn}")
    assert await world.refused(MICROVMS, "UpdateMicrovmImage", **update) == busy
    await world.plane.settle()
    await world.ok(MICROVMS, "DeleteMicrovmImage", imageIdentifier=arn)
    taken = (400, "ValidationException", "A MicroVM image with the name 'web' already exists in this account")
    assert await world.refused(MICROVMS, "CreateMicrovmImage", **asked) == taken
    office = {"Name": "office", "Configuration": connector(), "OperatorRole": ROLE, "ClientToken": "fixed"}
    await ok(world, CORE, "CreateNetworkConnector", **office)
    update = {"Identifier": "office", "Configuration": connector("sg-web"), "ClientToken": "fixed"}
    await ok(world, CORE, "UpdateNetworkConnector", **update)
    await world.ok(CORE, "DeleteNetworkConnector", Identifier="office")
    for operation, parameters in (("CreateNetworkConnector", office), ("UpdateNetworkConnector", update)):
        assert (await world.refused(CORE, operation, **parameters))[:2] == (409, "ResourceConflictException")


async def test_tokens_of_other_accounts_are_not_touched(world: World) -> None:
    asked = {"name": "web", **LEAST, **TOKEN}
    arn = (await ok(world, MICROVMS, "CreateMicrovmImage", **asked))["imageArn"]
    with world.plane.database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO client_tokens SELECT '999999999999', operation, token, parameters, resource_id "
            "FROM client_tokens"
        )
    await ok(world, MICROVMS, "DeleteMicrovmImage", imageIdentifier=arn)
    await ok(world, MICROVMS, "CreateMicrovmImage", **asked)
    with world.plane.database.reading() as connection:
        found = connection.exec_driver_sql("SELECT account_id FROM client_tokens ORDER BY account_id").scalars().all()
    assert found == [KEY.account_id, "999999999999"]
