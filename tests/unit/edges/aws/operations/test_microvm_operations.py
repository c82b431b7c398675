"""The operations on microVMs, as they are on the wire: every member that comes back, every refusal's text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emberbox.model.arns import managed_connector_arn
from emberbox.model.records import Image
from emberbox.model.states import MicrovmState
from emberbox.spec.models import MICROVMS
from support.api_world import World
from support.wire import REGION

ROLE = "arn:aws:iam::123456789012:role/service/any"
POLICY = {"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 0, "autoResumeEnabled": False}
NOT_ALLOWED = "User is not authorized to access this resource: "


def connector(name: str) -> str:
    return managed_connector_arn(REGION, name)


def shown(image: Image, answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what a microVM that was just run looks like; its own id, name and moment are those of the answer."""
    return {
        "microvmId": answer["microvmId"],
        "state": "PENDING",
        "endpoint": answer["endpoint"],
        "imageArn": image.arn,
        "imageVersion": "1.0",
        "maximumDurationInSeconds": 28800,
        "startedAt": answer["startedAt"],
        "ingressNetworkConnectors": [connector("HTTP_INGRESS")],
        "egressNetworkConnectors": [connector("INTERNET_EGRESS")],
        **more,
    }


async def run(world: World, image: Image, **more: Any) -> dict[str, Any]:
    return await world.ok(MICROVMS, "RunMicrovm", imageIdentifier=image.arn, **more)


async def refused(world: World, operation: str, **parameters: Any) -> tuple[int, str, str]:
    return await world.refused(MICROVMS, operation, **parameters)


# --- RunMicrovm and GetMicrovm


async def test_what_was_asked_for_least_has_its_defaults(world: World) -> None:
    image = world.plane.add_image("web")
    answer = await run(world, image)
    assert {name: value for name, value in answer.items() if value is not None} == shown(image, answer)
    host, _, port = answer["endpoint"].partition(":")
    assert host.endswith(f".lambda-microvm.{REGION}.localhost")
    assert len(host.partition(".")[0]) == 36
    assert not port


async def test_everything_that_was_asked_for_is_shown(world: World) -> None:
    image = world.plane.add_image("web", versions=2)
    ingress = [connector(name) for name in ("SHELL_INGRESS", "HTTP_INGRESS", "SHELL_INGRESS")]
    egress = [connector("INTERNET_EGRESS")] * 2
    answer = await run(
        world, image, imageVersion="2.0", executionRoleArn=ROLE, idlePolicy=POLICY, maximumDurationInSeconds=600,
        ingressNetworkConnectors=ingress, egressNetworkConnectors=egress, runHookPayload="",
        logging={"cloudWatch": {"logGroup": "/own", "logStream": "stream"}},
    )  # fmt: skip
    expected = shown(
        image, answer, imageVersion="2.0", executionRoleArn=ROLE, idlePolicy=POLICY, maximumDurationInSeconds=600,
        ingressNetworkConnectors=ingress, egressNetworkConnectors=egress,
    )  # fmt: skip
    assert {name: value for name, value in answer.items() if value is not None} == expected
    found = await world.ok(MICROVMS, "GetMicrovm", microvmIdentifier=answer["microvmId"])
    del expected["state"]  # the launch may have failed meanwhile
    assert {name: found[name] for name in expected} == expected


async def test_empty_lists_of_connectors_are_the_defaults(world: World) -> None:
    image = world.plane.add_image("web")
    answer = await run(world, image, ingressNetworkConnectors=[], egressNetworkConnectors=[])
    assert {name: value for name, value in answer.items() if value is not None} == shown(image, answer)


async def test_the_same_client_token_shows_the_first(world: World) -> None:
    image = world.plane.add_image("web")
    first = await run(world, image, clientToken="one", idlePolicy=POLICY)
    again = await run(world, image, clientToken="one", idlePolicy=POLICY)
    assert again["microvmId"] == first["microvmId"]
    assert await refused(world, "RunMicrovm", imageIdentifier=image.arn, clientToken="one") == (
        409, "ConflictException", "The clientToken was used before with other parameters; use a new one."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({"imageIdentifier": "web"}, "Malformed ARN - doesn't start with 'arn:'"),
        ({"imageIdentifier": "arn:aws:s3:::web"}, "Invalid ARN format: arn:aws:s3:::web"),
        (
            {"runHookPayload": "x"},
            "The run hook must be enabled in the MicroVM image to pass the run hook payload",
        ),
        (
            {"kmsKeyIdentifier": "alias/any"},
            "KMS keys are not available here. Leave kmsKeyIdentifier out.",
        ),
        (
            {"logging": {"cloudWatch": {"logStream": "x"}}},
            "Logging cannot be enabled without providing executionRoleArn",
        ),
        ({"ingressNetworkConnectors": ["HTTP_INGRESS"]}, "Malformed network connector ARN"),
        (
            {"ingressNetworkConnectors": [connector("INTERNET_EGRESS")]},
            f"Unrecognized managed network connector ARN: {connector('INTERNET_EGRESS')}",
        ),
        (
            {"ingressNetworkConnectors": [connector("HTTP_INGRESS").replace(REGION, "eu-west-9")]},
            f"Unrecognized managed network connector ARN: {connector('HTTP_INGRESS').replace(REGION, 'eu-west-9')}",
        ),
        (
            {"egressNetworkConnectors": [connector("HTTP_INGRESS")]},
            f"Unrecognized managed network connector ARN: {connector('HTTP_INGRESS')}",
        ),
    ],
)
async def test_a_launch_that_breaks_a_rule_is_refused(world: World, parameters: dict[str, Any], refusal: str) -> None:
    image = world.plane.add_image("web")
    answer = await refused(world, "RunMicrovm", **{"imageIdentifier": image.arn} | parameters)
    assert answer == (400, "ValidationException", refusal)


async def test_an_image_that_cannot_be_launched_is_named_as_the_caller_did(world: World) -> None:
    image = world.plane.add_image("web")
    for arn in (image.arn.replace(":web", ":other"), image.arn.replace("arn:aws:", "arn:aws-cn:")):
        text = f"No active version found for MicroVM image {arn}"
        assert (await refused(world, "RunMicrovm", imageIdentifier=arn))[1:] == ("ResourceNotFoundException", text)
        answer = await refused(world, "RunMicrovm", imageIdentifier=arn, imageVersion="7.0")
        assert answer[1:] == ("ResourceNotFoundException", f"{text} and version 7.0")
    for arn in (image.arn.replace(REGION, "eu-west-9"), image.arn.replace(":web", ":we.b")):
        assert (await refused(world, "RunMicrovm", imageIdentifier=arn))[1:] == (
            "AccessDeniedException", f"{NOT_ALLOWED}{arn}"
        )  # fmt: skip


@pytest.mark.parametrize("logging", [{"disabled": {}}, {"cloudWatch": {}}])
async def test_a_log_target_without_names_needs_no_role(world: World, logging: dict[str, Any]) -> None:
    image = world.plane.add_image("web")
    answer = await run(world, image, logging=logging)
    assert answer["state"] == "PENDING"


# --- ListMicrovms


async def test_a_list_has_pages_of_its_own(world: World) -> None:
    web, other = world.plane.add_image("web", versions=2), world.plane.add_image("Web")
    now = datetime.now(UTC)
    stored = [
        world.plane.add_microvm(image, started_at=now - timedelta(seconds=age), image_version=version)
        for age, (image, version) in enumerate([(web, "1.0"), (other, "1.0"), (web, "2.0"), (web, "1.0")])
    ]
    first = await world.ok(MICROVMS, "ListMicrovms", maxResults=3)
    second = await world.ok(MICROVMS, "ListMicrovms", maxResults=3, nextToken=first["nextToken"])
    assert [item["microvmId"] for item in first["items"] + second["items"]] == [microvm.id for microvm in stored]
    assert second.get("nextToken") is None
    assert set(first["items"][0]) == {"microvmId", "state", "imageArn", "imageVersion", "startedAt"}
    of_web = await world.ok(MICROVMS, "ListMicrovms", imageIdentifier=web.arn)
    assert [item["microvmId"] for item in of_web["items"]] == [stored[0].id, stored[2].id, stored[3].id]
    assert {item["imageArn"] for item in of_web["items"]} == {web.arn}
    pinned = await world.ok(MICROVMS, "ListMicrovms", imageIdentifier=web.arn, imageVersion="2.0")
    assert [item["microvmId"] for item in pinned["items"]] == [stored[2].id]
    by_version = await world.ok(MICROVMS, "ListMicrovms", imageVersion="2.0")
    assert [item["microvmId"] for item in by_version["items"]] == [stored[2].id]
    for arn in (web.arn.replace(":web", ":eb"), web.arn.replace("arn:aws:", "arn:aws-cn:")):
        assert (await world.ok(MICROVMS, "ListMicrovms", imageIdentifier=arn))["items"] == []


async def test_a_list_refuses_what_is_no_image_and_no_place(world: World) -> None:
    image = world.plane.add_image("web")
    assert (await refused(world, "ListMicrovms", imageIdentifier="web"))[1:] == (
        "ValidationException", "Invalid ARN format: web"
    )  # fmt: skip
    foreign = image.arn.replace(REGION, "eu-west-9")
    assert (await refused(world, "ListMicrovms", imageIdentifier=foreign))[1:] == (
        "AccessDeniedException", f"{NOT_ALLOWED}{foreign}"
    )  # fmt: skip
    assert (await refused(world, "ListMicrovms", nextToken="none"))[1] == "ValidationException"


# --- tokens


async def test_a_token_for_ports_has_the_header_that_it_goes_in(world: World) -> None:
    microvm = world.plane.add_microvm(world.plane.add_image("web"))
    answer = await world.ok(
        MICROVMS, "CreateMicrovmAuthToken", microvmIdentifier=microvm.id, expirationInMinutes=60,
        allowedPorts=[{"port": 8080}, {"range": {"startPort": 1, "endPort": 2}}, {"allPorts": {}}],
    )  # fmt: skip
    assert list(answer) == ["authToken"]
    assert list(answer["authToken"]) == ["X-aws-proxy-auth"]


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({"expirationInMinutes": 61}, "ExpirationMinutes 61 exceeded max allowed of 60."),
        (
            {"allowedPorts": [{"range": {"startPort": 2, "endPort": 1}}]},
            "Ports in allowedPorts must be from 1 to 65535, and startPort at most endPort",
        ),
    ],
)
async def test_a_token_that_breaks_a_rule_is_refused(world: World, parameters: dict[str, Any], refusal: str) -> None:
    microvm = world.plane.add_microvm(world.plane.add_image("web"))
    asked = {"microvmIdentifier": microvm.id, "expirationInMinutes": 1, "allowedPorts": [{"port": 1}]} | parameters
    assert await refused(world, "CreateMicrovmAuthToken", **asked) == (400, "ValidationException", refusal)
    stranger = asked | {"microvmIdentifier": "microvm-x"}
    assert (await refused(world, "CreateMicrovmAuthToken", **stranger))[2] == "MicroVM not found: microvm-x"


NO_SHELL = "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
NOT_BESIDE_OTHERS = """ALL_INGRESS cannot be combined with other ingress network connectors; \
use HTTP_INGRESS and/or SHELL_INGRESS instead"""


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (["SHELL_INGRESS"], None),
        (["HTTP_INGRESS", "SHELL_INGRESS"], None),
        (["ALL_INGRESS"], NO_SHELL),
        (["HTTP_INGRESS"], NO_SHELL),
        (["ALL_INGRESS", "SHELL_INGRESS"], NOT_BESIDE_OTHERS),
    ],
)
async def test_a_shell_token_needs_shell_ingress_alone(world: World, names: list[str], refusal: str | None) -> None:
    image = world.plane.add_image("web")
    microvm = await run(world, image, ingressNetworkConnectors=[connector(name) for name in names])
    asked = {"microvmIdentifier": microvm["microvmId"], "expirationInMinutes": 5}
    if refusal is None:
        answer = await world.ok(MICROVMS, "CreateMicrovmShellAuthToken", **asked)
        assert list(answer["authToken"]) == ["X-aws-proxy-auth"]
    else:
        assert (await refused(world, "CreateMicrovmShellAuthToken", **asked))[2] == refusal


# --- the state


async def test_what_has_ended_or_is_not_there_is_not_changed(world: World) -> None:
    image = world.plane.add_image("web")
    ended = world.plane.add_microvm(image).id
    pending = world.plane.add_microvm(image, MicrovmState.PENDING).id
    running = world.plane.add_microvm(image, MicrovmState.RUNNING).id
    for operation in ("SuspendMicrovm", "ResumeMicrovm"):
        assert (await refused(world, operation, microvmIdentifier=ended))[1:] == (
            "ValidationException", f"The MicroVM {ended} has been terminated and its state cannot be changed."
        )  # fmt: skip
        assert (await refused(world, operation, microvmIdentifier="microvm-x"))[1:] == (
            "ResourceNotFoundException", "MicroVM not found: microvm-x"
        )  # fmt: skip
    assert (await refused(world, "SuspendMicrovm", microvmIdentifier=pending))[1:] == (
        "ConflictException", f"The MicroVM {pending} is in state PENDING; wait until it has settled."
    )  # fmt: skip
    assert await world.ok(MICROVMS, "ResumeMicrovm", microvmIdentifier=running) == {}
    assert await world.ok(MICROVMS, "TerminateMicrovm", microvmIdentifier=running) == {}
