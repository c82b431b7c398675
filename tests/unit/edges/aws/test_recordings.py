"""What AWS was recorded to say no with, word for word: a row for each, with who recorded it and when.

The bytes on the wire are compared, as SDKs hide what else a body has. Where the whole body was recorded the row says
so; of the others the text was, and the body has the members of its code. Names, regions and accounts are ours, and the
order of members is the model's: it was not recorded.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from emberbox.model.arns import managed_image_arn
from emberbox.spec.models import CORE, EMBERBOX, MICROVMS
from support.api_world import World
from support.control_plane import ROLE, ControlPlane
from support.wire import KEY, REGION

M80: Final = "INTENTIUS/m80, recorded fixtures and docs/api-surface.md"
ABCA1: Final = "aws-samples/sample-autonomous-cloud-coding-agents, docs/verification/645-p1-lambda-microvm-runbook.md"
ABCA2: Final = "aws-samples/sample-autonomous-cloud-coding-agents, docs/verification/645-p2-smoke-runbook.md"
RAYITO: Final = "alejandro-cedeno-10/rayito, AWS_API_NOTES.md"
AGENTD: Final = "theagenticguy/microvms-agentd, docs/PLATFORM.md"
CLIENTS: Final = "two clients that wait for this text: an image release script, and the fake AWS of a test suite"
NOTES: Final = "a user's notes, in Japanese, on a build that hung"
FLOCI: Final = "floci, which calls it recorded live"

VALIDATION: Final = "ValidationException"
INVALID: Final = "InvalidParameterValueException"
CONFLICT: Final = "ConflictException"
MISSING: Final = "ResourceNotFoundException"
_QUOTA: Final = {"resourceId": None, "resourceType": None, "serviceCode": None, "quotaCode": None}
_OTHER_MEMBERS: Final = {
    MISSING: {"resourceType": None, "resourceId": None},
    CONFLICT: {"resourceId": None, "resourceType": None},
    "ServiceQuotaExceededException": _QUOTA,
}
"""What lambda-microvms has in a body beside the text, by the code."""

IMAGES: Final = f"arn:aws:lambda:{REGION}:{KEY.account_id}:microvm-image"
CONNECTORS: Final = f"arn:aws:lambda:{REGION}:{KEY.account_id}:network-connector"
BASE: Final = managed_image_arn(REGION, "al2023-1")
LEAST: Final = {"baseImageArn": BASE, "buildRoleArn": ROLE, "codeArtifact": {"uri": "s3://code/key"}}
NEW: Final = {"name": "new", **LEAST}
WEB: Final = {"imageIdentifier": f"{IMAGES}:web"}
FIRST: Final = {**WEB, "imageVersion": "1.0"}
SECOND: Final = {**WEB, "imageVersion": "2.0"}
MANY: Final = [f"subnet-{number:017}" for number in range(1, 18)]
ABSENT: Final = "microvm-00000000-0000-0000-0000-000000000000"
VPC: Final = {
    "SubnetIds": ["subnet-office"],
    "SecurityGroupIds": ["sg-web"],
    "NetworkProtocol": "IPv4",
    "AssociatedComputeResourceTypes": ["MicroVm"],
}


def connector(*without: str, **more: Any) -> dict[str, Any]:
    """Return a request for a connector that lacks some members, wherever they are."""
    vpc = {name: value for name, value in (VPC | more).items() if name not in without}
    whole = {"Name": "c", "OperatorRole": ROLE, "ClientToken": "t", "Configuration": {"VpcEgressConfiguration": vpc}}
    return {name: value for name, value in whole.items() if name not in without}


# --- what there is when the request comes


async def nothing(_world: World) -> None:
    """Nothing is there."""


async def an_image(world: World) -> None:
    world.plane.add_image("web")


async def an_image_that_is_built(world: World) -> None:
    await world.ok(MICROVMS, "CreateMicrovmImage", **NEW | {"name": "web"})


async def an_image_that_is_updated(world: World) -> None:
    world.plane.add_image("web")
    await world.ok(MICROVMS, "UpdateMicrovmImage", **WEB, **LEAST)


async def an_image_with_a_version_that_is_deleted(world: World) -> None:
    world.plane.add_image("web", versions=3)
    await world.ok(MICROVMS, "DeleteMicrovmImageVersion", **WEB, imageVersion="3.0")


async def a_microvm(world: World) -> None:
    world.plane.add_image("web")
    await world.ok(MICROVMS, "RunMicrovm", **WEB)


async def a_microvm_that_has_ended(world: World) -> None:
    world.plane.add_microvm(world.plane.add_image("web"), id=ABSENT)


async def a_quota_that_is_used_up(world: World) -> None:
    await world.ok(EMBERBOX, "PutQuota", accountId=KEY.account_id, quotaCode="ConcurrentMemoryInMiB", value=512)
    await a_microvm(world)


async def a_connector(world: World) -> None:
    await world.ok(CORE, "CreateNetworkConnector", **connector())
    await world.plane.settle()


@dataclass(frozen=True)
class Recording:
    """A refusal.

    Args:
        source: who recorded it.
        on: when, at the latest: where that is not said, when it was read.
        operation: what was asked for.
        parameters: with what.
        answer: status, code and text.
        scene: makes what is there before.
        service: of the operation.
        key: of the text.
        whole: the whole body was recorded, not the text alone.
    """

    source: str
    on: date
    operation: str
    parameters: Mapping[str, Any]
    answer: tuple[int, str, str]
    scene: Callable[[World], Awaitable[None]] = nothing
    service: str = MICROVMS
    key: str = "message"
    whole: bool = field(default=False, kw_only=True)

    @property
    def body(self) -> bytes:
        """The body."""
        _, code, text = self.answer
        others = _OTHER_MEMBERS.get(code, {}) if self.service == MICROVMS else {}
        return json.dumps({self.key: text, **others}, separators=(",", ":")).encode()


JULY_30, JULY_31, AUGUST_6, AUGUST_16 = date(2026, 7, 30), date(2026, 7, 31), date(2026, 8, 6), date(2026, 8, 16)
SEPTEMBER_30, NOVEMBER_25 = date(2026, 9, 30), date(2026, 11, 25)

BUSY_IMAGES = [
    Recording(
        ABCA1, JULY_31, "DeleteMicrovmImage", WEB,
        (400, VALIDATION, f"Cannot delete MicroVM image in its current state: {IMAGES}:web"),
        an_image_that_is_built,
    ),
    Recording(
        ABCA1, JULY_31, "DeleteMicrovmImage", WEB,
        (400, VALIDATION, f"Cannot delete MicroVM image in its current state: {IMAGES}:web"),
        an_image_with_a_version_that_is_deleted,
    ),
    Recording(
        ABCA1, JULY_31, "DeleteMicrovmImage", WEB,
        (400, VALIDATION, f"Cannot delete MicroVM image in its current state: {IMAGES}:web"),
        an_image_that_is_updated,
    ),
    Recording(
        CLIENTS, NOVEMBER_25, "UpdateMicrovmImage", WEB | LEAST,
        (400, VALIDATION, f"Cannot update MicroVM Image in its current state: {IMAGES}:web"),
        an_image_that_is_updated,
    ),
    Recording(
        CLIENTS, NOVEMBER_25, "UpdateMicrovmImage", WEB | LEAST,
        (400, VALIDATION, f"Cannot update MicroVM Image in its current state: {IMAGES}:web"),
        an_image_that_is_built,
    ),
    Recording(
        ABCA1, JULY_31, "DeleteMicrovmImageVersion", SECOND,
        (409, CONFLICT, "MicroVM Image is already in state: UPDATING"),
        an_image_with_a_version_that_is_deleted,
    ),
    Recording(
        M80, JULY_30, "UpdateMicrovmImageVersion", {**FIRST, "status": "INACTIVE"},
        (409, CONFLICT, "MicroVM Image is already in state: UPDATING"),
        an_image_that_is_updated,
    ),
    Recording(
        ABCA1, JULY_31, "DeleteMicrovmImageVersion", FIRST,
        (400, VALIDATION, "This is the last version. Please delete the entire image"),
        an_image,
    ),
    Recording(
        NOTES, NOVEMBER_25, "DeleteMicrovmImageVersion", FIRST,
        (400, VALIDATION, "This is the last version. Please delete the entire image"),
        an_image_that_is_built,
    ),
    Recording(
        M80, JULY_30, "DeleteMicrovmImage", WEB,
        (400, VALIDATION, "Cannot delete microvm image with running microvms."),
        a_microvm,
    ),
]  # fmt: skip

IMAGE_REQUESTS = [
    Recording(
        M80, JULY_30, "CreateMicrovmImage", NEW | {"name": "bad name!"},
        (400, VALIDATION, ("1 validation error detected: Value 'bad name!' at 'name' failed to satisfy constraint: "
         "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+")),
        whole=True,
    ),
    Recording(
        M80, JULY_30, "CreateMicrovmImage", {"name": "new"},
        (400, VALIDATION, ("3 validation errors detected: Value null at 'baseImageArn' failed to satisfy constraint: "
         "Member must not be null; Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; "
         "Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null")),
        whole=True,
    ),
    Recording(
        M80, JULY_30, "CreateMicrovmImage", NEW | {"name": "web"},
        (400, VALIDATION, "A MicroVM image with the name 'web' already exists in this account"),
        an_image,
    ),
    Recording(
        ABCA1, JULY_31, "CreateMicrovmImage", NEW | {"hooks": {"port": 1, "microvmHooks": {"run": "ENABLED"}}},
        (400, VALIDATION, ("The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook "
         "(run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished "
         "initializing so the snapshot is taken in a ready state.")),
    ),
    Recording(
        ABCA1, JULY_31, "CreateMicrovmImage", NEW | {"resources": [{"minimumMemoryInMiB": 32768}]},
        (400, VALIDATION, ("The requested memory size of 32768 MiB is not supported by base MicroVM image "
         f"{BASE}. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].")),
    ),
    Recording(
        RAYITO, SEPTEMBER_30, "CreateMicrovmImage", NEW | {"environmentVariables": {"AWS_REGION": "x"}},
        (400, VALIDATION, "Environment variable key 'AWS_REGION' is reserved"),
    ),
    Recording(
        AGENTD, AUGUST_16, "CreateMicrovmImage", NEW | {"baseImageVersion": "7"},
        (400, VALIDATION, f"No managed MicroVM Image with arn {BASE} and version 7 is available"),
    ),
    Recording(
        ABCA1, JULY_31, "GetMicrovmImage", {"imageIdentifier": "web"},
        (400, VALIDATION, "Invalid ARN format: web"),
    ),
    Recording(
        M80, JULY_30, "GetMicrovmImage", WEB,
        (404, MISSING, f"MicroVMImage not found for MicroVMImageID: {IMAGES}:web"),
        whole=True,
    ),
    Recording(
        M80, JULY_30, "GetMicrovmImageVersion", FIRST,
        (404, MISSING, f"MicroVMImage not found for MicroVMImage: {IMAGES}:web, Version: 1.0"),
        whole=True,
    ),
]  # fmt: skip

MICROVM_REQUESTS = [
    Recording(
        M80, JULY_30, "GetMicrovm", {"microvmIdentifier": ABSENT}, (404, MISSING, f"MicroVM not found: {ABSENT}"),
        whole=True,
    ),
    Recording(
        M80, JULY_30, "SuspendMicrovm", {"microvmIdentifier": ABSENT},
        (400, VALIDATION, f"The MicroVM {ABSENT} has been terminated and its state cannot be changed."),
        a_microvm_that_has_ended, whole=True,
    ),
    Recording(
        M80, JULY_30, "RunMicrovm", WEB, (404, MISSING, f"No active version found for MicroVM image {IMAGES}:web"),
        whole=True,
    ),
    Recording(
        M80, JULY_30, "RunMicrovm", WEB,
        (402, "ServiceQuotaExceededException",
         "The base maximum allocated memory limit has been reached for this account."),
        a_quota_that_is_used_up, whole=True,
    ),
    Recording(
        ABCA1, JULY_31, "RunMicrovm", WEB | {"runHookPayload": "x"},
        (400, VALIDATION, "The run hook must be enabled in the MicroVM image to pass the run hook payload"),
        an_image,
    ),
    Recording(
        ABCA1, JULY_31, "RunMicrovm", {"imageIdentifier": "web"},
        (400, VALIDATION, "Malformed ARN - doesn't start with 'arn:'"),
    ),
    Recording(
        M80, JULY_30, "CreateMicrovmShellAuthToken", {"microvmIdentifier": ABSENT, "expirationInMinutes": 5},
        (400, VALIDATION, "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."),
        a_microvm_that_has_ended, whole=True,
    ),
]  # fmt: skip

CONNECTOR_REQUESTS = [
    Recording(
        M80, JULY_30, "GetNetworkConnector", {"Identifier": "nc-m80-does-not-exist"},
        (404, MISSING, f"Network connector not found for: {CONNECTORS}:nc-m80-does-not-exist"),
        nothing, CORE, "Message", whole=True,
    ),
    Recording(
        M80, JULY_30, "CreateNetworkConnector", connector("ClientToken"),
        (400, INVALID, "ClientToken is a required field"), nothing, CORE, whole=True,
    ),
    Recording(
        M80, JULY_30, "CreateNetworkConnector", connector("OperatorRole"),
        (400, INVALID, "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"), nothing, CORE,
    ),
    Recording(
        f"two clients, and {FLOCI}", NOVEMBER_25, "CreateNetworkConnector", connector("NetworkProtocol"),
        (400, INVALID, "NetworkProtocol cannot be null or empty for VPC_EGRESS connector"), nothing, CORE,
    ),
    Recording(
        f"two clients, and {FLOCI}", NOVEMBER_25, "UpdateNetworkConnector",
        {"Identifier": "c", "Configuration": connector("NetworkProtocol")["Configuration"]},
        (400, INVALID, "NetworkProtocol cannot be null or empty for VPC_EGRESS connector"), a_connector, CORE,
    ),
    Recording(
        FLOCI, NOVEMBER_25, "CreateNetworkConnector", connector("AssociatedComputeResourceTypes"),
        (400, INVALID, "AssociatedComputeResourceTypes is required for VPC_EGRESS connector type"), nothing, CORE,
    ),
    Recording(
        M80, JULY_30, "CreateNetworkConnector",
        connector("ClientToken", "OperatorRole", "NetworkProtocol", SubnetIds=MANY),
        (400, VALIDATION, (f"1 validation error detected: Value '[{', '.join(MANY)}]' at "
         "'configuration.vpcEgressConfiguration.subnetIds' failed to satisfy constraint: "
         "Member must have length less than or equal to 16")),
        nothing, CORE, whole=True,
    ),
]  # fmt: skip

STRICT_ROLES = [
    Recording(
        ABCA2, AUGUST_6, "CreateNetworkConnector", connector(),
        (400, INVALID, ("The service is unable to assume the provided NetworkConnectorOperatorRole. "
         "Please verify the trust policy on the role.")),
        nothing, CORE,
    ),
]  # fmt: skip


def _name(recording: Recording) -> str:
    return f"{recording.operation}-{recording.scene.__name__}-{recording.answer[2][:40]}"


async def check(world: World, recording: Recording) -> None:
    """Send the request in its scene, and compare status, code and bytes."""
    await recording.scene(world)
    answer = await world.send(recording.service, recording.operation, **recording.parameters)
    status, code, _ = recording.answer
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code)
    assert answer.body == recording.body


@pytest.mark.parametrize("recording", BUSY_IMAGES + IMAGE_REQUESTS + MICROVM_REQUESTS + CONNECTOR_REQUESTS, ids=_name)
async def test_a_recorded_refusal_is_given_to_the_byte(world: World, recording: Recording) -> None:
    await check(world, recording)


@pytest.fixture
async def strict_world(tmp_path: Path) -> AsyncIterator[World]:
    """A client of a control plane on which roles must be defined."""
    directory = tmp_path / "strict"
    directory.mkdir()
    plane = await ControlPlane(directory, KEY, REGION, strict_roles=True).open()
    yield World(plane)
    await plane.close()


@pytest.mark.parametrize("recording", STRICT_ROLES, ids=_name)
async def test_a_recorded_refusal_of_a_role_is_given_to_the_byte(strict_world: World, recording: Recording) -> None:
    await check(strict_world, recording)


async def test_the_reason_of_a_connector_stays_when_it_is_active(world: World) -> None:
    """Recorded by m80 on 2026-07-30 (connectors/get-until-active)."""
    await a_connector(world)
    answer = await world.send(CORE, "GetNetworkConnector", Identifier="c")
    assert b'"State":"ACTIVE"' in answer.body
    assert b'"StateReason":"Initial creation"' in answer.body


async def test_the_whole_number_of_a_version_names_it_in_a_path(world: World) -> None:
    """Recorded of ListMicrovmImageBuilds on 2026-07-31 (aws-samples/sample-autonomous-cloud-coding-agents)."""
    await an_image(world)
    (build,) = (await world.ok(MICROVMS, "ListMicrovmImageBuilds", **WEB, imageVersion="1"))["items"]
    assert build["imageVersion"] == "1.0"
