"""What happens to an image after its first build: updates, statuses, deletions, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.aws import Clients, refusal
from support.guests import Microvm
from support.images import Image, ImageMaker, probe_files
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

Launch = Callable[..., Microvm]


@pytest.fixture(scope="module")
def versioned(clients: Clients, images: ImageMaker) -> Iterator[Image]:
    """An image with the versions 1.0 and 2.0, both successful, and 3.0, failed."""
    image = images.build("versioned", probe_files(), tags={"team": "red"})
    update(clients, images, image, probe_files(), environmentVariables={"GENERATION": "two"})
    assert settle(clients, image) == "UPDATED"
    update(clients, images, image, {"Dockerfile": "FROM emberbox/debian:12\nRUN false\n"})
    assert settle(clients, image) == "UPDATE_FAILED"
    yield image
    images.delete(image)


def update(clients: Clients, images: ImageMaker, image: Image, files: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Ask for a new version and return the answer."""
    request = {name: value for name, value in images.request("unused", files, **more).items() if name != "name"}
    answer: dict[str, Any] = clients.microvms.update_microvm_image(imageIdentifier=image.arn, **request)
    return answer


def settle(clients: Clients, image: Image) -> str:
    """Wait until an update has ended and return the image's state."""

    def settled() -> str | None:
        state = clients.microvms.get_microvm_image(imageIdentifier=image.arn)["state"]
        return None if state == "UPDATING" else str(state)

    return wait_for(f"the update of {image.name} has ended", settled, 300)


@pytest.mark.rule("ListMicrovmImageVersions", "GetMicrovmImage")
def test_versions_count_up_and_failed_ones_use_a_number(clients: Clients, versioned: Image) -> None:
    """Three builds give 3.0, 2.0 and 1.0, and the image names the latest active and failed ones."""
    listed = clients.microvms.list_microvm_image_versions(imageIdentifier=versioned.arn)["items"]
    shown = clients.microvms.get_microvm_image(imageIdentifier=versioned.arn)

    assert [(v["imageVersion"], v["state"], v["status"]) for v in listed] == [
        ("3.0", "FAILED", "INACTIVE"),
        ("2.0", "SUCCESSFUL", "ACTIVE"),
        ("1.0", "SUCCESSFUL", "ACTIVE"),
    ]
    assert (shown["latestActiveImageVersion"], shown["latestFailedImageVersion"]) == ("2.0", "3.0")


@pytest.mark.rule("RunMicrovm")
def test_a_launch_takes_the_latest_active_version_or_the_one_it_names(launch: Launch, versioned: Image) -> None:
    """A failed update takes nothing down: 2.0 is launched by default, and 1.0 when it is named."""
    latest, pinned = launch(versioned), launch(versioned, imageVersion="1.0")

    assert "GENERATION=two" in latest.shell("env")
    assert "GENERATION" not in pinned.shell("env")
    assert "AWS_LAMBDA_MICROVM_IMAGE_VERSION=1.0" in pinned.shell("env")


@pytest.mark.rule("UpdateMicrovmImageVersion", "RunMicrovm")
def test_an_inactive_version_is_not_launched(clients: Clients, launch: Launch, versioned: Image) -> None:
    """INACTIVE refuses launches, pinned or not, until it is ACTIVE again."""
    target = {"imageIdentifier": versioned.arn, "imageVersion": "2.0"}
    changed = clients.microvms.update_microvm_image_version(**target, status="INACTIVE")
    try:
        assert (changed["status"], changed["state"]) == ("INACTIVE", "SUCCESSFUL")
        assert refusal(clients.microvms.run_microvm, **target) == (
            404,
            "ResourceNotFoundException",
            f"No active version found for MicroVM image {versioned.arn} and version 2.0",
        )
        assert launch(versioned).describe()["imageVersion"] == "1.0"
    finally:
        clients.microvms.update_microvm_image_version(**target, status="ACTIVE")
    assert clients.microvms.get_microvm_image(imageIdentifier=versioned.arn)["latestActiveImageVersion"] == "2.0"


@pytest.mark.rule("UpdateMicrovmImageVersion")
def test_a_failed_version_cannot_be_made_active(clients: Clients, versioned: Image) -> None:
    """Only what was built can be launched."""
    status, code, text = refusal(
        clients.microvms.update_microvm_image_version,
        imageIdentifier=versioned.arn,
        imageVersion="3.0",
        status="ACTIVE",
    )
    assert (status, code) == (400, "ValidationException")
    assert "FAILED" in text


@pytest.mark.rule("UpdateMicrovmImage", "DeleteMicrovmImage", "DeleteMicrovmImageVersion", "UpdateMicrovmImageVersion")
def test_an_image_that_is_updated_is_busy(clients: Clients, images: ImageMaker) -> None:
    """During UPDATING the image is refused by 400 and its versions by 409, in AWS's words; the last version stays."""
    image = images.build("busy", probe_files())
    answer = update(clients, images, image, probe_files())
    busy = (409, "ConflictException", "MicroVM Image is already in state: UPDATING")
    version = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    request = {k: v for k, v in images.request("unused", probe_files()).items() if k != "name"}

    assert (answer["state"], answer["imageVersion"], answer["latestActiveImageVersion"]) == ("UPDATING", "2.0", "1.0")
    for verb, operation, more in (
        ("update MicroVM Image", clients.microvms.update_microvm_image, request),
        ("delete MicroVM image", clients.microvms.delete_microvm_image, {}),
    ):
        text = f"Cannot {verb} in its current state: {image.arn}"
        assert refusal(operation, imageIdentifier=image.arn, **more) == (400, "ValidationException", text)
    assert refusal(clients.microvms.update_microvm_image_version, **version, status="INACTIVE") == busy
    assert refusal(clients.microvms.delete_microvm_image_version, **version) == busy
    assert settle(clients, image) == "UPDATED"

    delete = clients.microvms.delete_microvm_image_version
    assert delete(imageIdentifier=image.arn, imageVersion="1.0")["state"] == "DELETING"
    assert settle(clients, image) == "UPDATED"
    last = (400, "ValidationException", "This is the last version. Please delete the entire image")
    assert refusal(delete, imageIdentifier=image.arn, imageVersion="2.0") == last
    images.delete(image)


@pytest.mark.rule("DeleteMicrovmImageVersion")
def test_a_version_in_use_is_not_deleted(clients: Clients, launch: Launch, versioned: Image) -> None:
    """Its microVM keeps running."""
    microvm = launch(versioned, imageVersion="1.0")
    answer = refusal(clients.microvms.delete_microvm_image_version, imageIdentifier=versioned.arn, imageVersion="1.0")
    assert answer == (400, "ValidationException", "Cannot delete microvm image version with running microvms.")
    assert microvm.describe()["state"] == "RUNNING"


@pytest.mark.rule("TagResource", "UntagResource", "ListTags")
def test_tags_are_merged_and_removed(clients: Clients, versioned: Image) -> None:
    """New keys are added, known ones changed; removing what is not there is no error."""
    client = clients.microvms
    assert client.list_tags(Resource=versioned.arn)["Tags"] == {"team": "red"}
    client.tag_resource(Resource=versioned.arn, Tags={"team": "blue", "cost": "7"})
    assert client.list_tags(Resource=versioned.arn)["Tags"] == {"team": "blue", "cost": "7"}
    client.untag_resource(Resource=versioned.arn, TagKeys=["cost", "missing"])
    assert client.get_microvm_image(imageIdentifier=versioned.arn)["tags"] == {"team": "blue"}
    status, code, _ = refusal(client.tag_resource, Resource=versioned.arn, Tags={"aws:x": "1"})
    assert (status, code) == (400, "ValidationException")
    client.tag_resource(Resource=versioned.arn, Tags={"team": "red"})


@pytest.mark.rule("CreateMicrovmShellAuthToken")
def test_a_shell_token_needs_shell_ingress(clients: Clients, launch: Launch, probe_image: Image) -> None:
    """Without the connector it is refused with AWS's text; with it, the token opens no plain HTTP."""
    region = probe_image.arn.split(":")[3]
    connector = f"arn:aws:lambda:{region}:aws:network-connector:aws-network-connector:SHELL_INGRESS"
    plain, shell = launch(probe_image), launch(probe_image, ingressNetworkConnectors=[connector])
    mint = clients.microvms.create_microvm_shell_auth_token

    assert refusal(mint, microvmIdentifier=plain.id, expirationInMinutes=5) == (
        400,
        "ValidationException",
        "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.",
    )
    token = mint(microvmIdentifier=shell.id, expirationInMinutes=5)["authToken"]
    assert list(token) == ["X-aws-proxy-auth"]
