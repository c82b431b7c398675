"""Every operation of the model by unmodified boto3; each answer is held against the model (support/aws.py)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.session import get_session

from support.aws import Clients, refusal
from support.engines import ENGINE
from support.guests import Microvm
from support.images import Image, ImageMaker, probe_files
from support.server import DOMAIN, Server
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

Launch = Callable[..., Microvm]


@pytest.fixture(scope="module")
def called(clients: Clients) -> set[str]:
    """The operations that answered with success in this module."""
    names: set[str] = set()

    def note(http_response: Any, model: Any, **_: Any) -> None:
        if http_response.status_code < 300:
            names.add(model.name)

    clients.microvms.meta.events.register("after-call.lambda-microvms", note)
    return names


def told_operations() -> set[str]:
    """Return what the story below says that it is about."""
    (rule,) = test_the_whole_life_of_an_image_and_a_microvm.pytestmark
    return set(rule.args)


def test_every_operation_of_the_model_has_a_case() -> None:
    """An operation that the model gains must get its place in this module."""
    assert set(get_session().get_service_model("lambda-microvms").operation_names) == told_operations()


def test_an_operation_that_is_missing_says_so(clients: Clients) -> None:
    """The answer is an error in AWS's form that names the operation, and not a 404 or 500."""
    status, code, text = refusal(clients.logs.create_log_stream, logGroupName="mine", logStreamName="s")
    assert (status, code) == (501, "NotImplementedException")
    assert text == "CreateLogStream is not supported yet by Emberbox"


@pytest.mark.rule(
    "CreateMicrovmAuthToken",
    "CreateMicrovmImage",
    "CreateMicrovmShellAuthToken",
    "DeleteMicrovmImage",
    "DeleteMicrovmImageVersion",
    "GetMicrovm",
    "GetMicrovmImage",
    "GetMicrovmImageBuild",
    "GetMicrovmImageVersion",
    "ListManagedMicrovmImageVersions",
    "ListManagedMicrovmImages",
    "ListMicrovmImageBuilds",
    "ListMicrovmImageVersions",
    "ListMicrovmImages",
    "ListMicrovms",
    "ListTags",
    "ResumeMicrovm",
    "RunMicrovm",
    "SuspendMicrovm",
    "TagResource",
    "TerminateMicrovm",
    "UntagResource",
    "UpdateMicrovmImage",
    "UpdateMicrovmImageVersion",
)
def test_the_whole_life_of_an_image_and_a_microvm(
    clients: Clients, images: ImageMaker, probe_image: Image, gateway: Any, called: set[str]
) -> None:
    """Each implemented operation answers with success, in the shape of the model, and tells one story."""
    client = clients.microvms
    image = {"imageIdentifier": probe_image.arn}
    version = {**image, "imageVersion": "1.0"}

    shown = client.get_microvm_image(**image)
    assert (shown["imageArn"], shown["name"]) == (probe_image.arn, probe_image.name)
    assert shown["state"] in ("CREATED", "UPDATED")  # snapshots of other tests' microVMs were versions of it
    assert shown["latestActiveImageVersion"] == "1.0"
    assert datetime.now(UTC) - shown["createdAt"] < timedelta(hours=1)
    assert probe_image.arn in [item["imageArn"] for item in client.list_microvm_images(maxResults=50)["items"]]

    asked = client.get_microvm_image_version(**version)
    assert (asked["state"], asked["status"]) == ("SUCCESSFUL", "ACTIVE")
    assert asked["resources"] == [{"minimumMemoryInMiB": 512}]
    assert asked["baseImageVersion"] == "1.0"
    assert asked["hooks"]["port"] == 9000
    (listed,) = client.list_microvm_image_versions(**image)["items"]
    assert listed["imageVersion"] == "1.0"
    (build,) = client.list_microvm_image_builds(**version)["items"]
    assert client.get_microvm_image_build(**version, buildId=build["buildId"])["buildState"] == "SUCCESSFUL"

    managed = [item["imageArn"] for item in client.list_managed_microvm_images()["items"]]
    assert images.base_arn in managed
    assert any(arn.endswith(":microvm-image:al2023-1") for arn in managed)
    (base,) = client.list_managed_microvm_image_versions(imageIdentifier=images.base_arn)["items"]
    assert (base["imageVersion"], base["status"]) == ("1", "AVAILABLE")

    microvm = Microvm.launch(gateway, probe_image)
    described = microvm.wait_state("RUNNING")
    assert described["maximumDurationInSeconds"] == 28800
    connector = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector"
    assert described["ingressNetworkConnectors"] == [f"{connector}:HTTP_INGRESS"]
    assert described["egressNetworkConnectors"] == [f"{connector}:INTERNET_EGRESS"]
    assert f".lambda-microvm.us-east-1.{DOMAIN}:" in described["endpoint"]
    items = client.list_microvms(imageIdentifier=probe_image.arn, imageVersion="1.0", maxResults=50)["items"]
    assert microvm.id in [item["microvmId"] for item in items]
    assert microvm.mint().count(".") == 4
    for act, state in ((microvm.suspend, "SUSPENDED"), (microvm.resume, "RUNNING")):
        act()
        assert microvm.state() == state
    microvm.terminate()
    assert microvm.wait_ended() == "Success."
    assert microvm.id in [item["microvmId"] for item in client.list_microvms(maxResults=50)["items"]]

    failed = images.start("conformance", {"x": ""}, tags={"team": "blue"}, description="to be deleted")
    assert images.wait(failed) == "CREATE_FAILED"
    assert client.get_microvm_image(imageIdentifier=failed.arn)["tags"] == {"team": "blue"}
    tell_of_versions(client, images, failed)
    images.delete(failed)

    shells = Microvm.launch(
        gateway, probe_image, ingressNetworkConnectors=[f"{connector}:HTTP_INGRESS", f"{connector}:SHELL_INGRESS"]
    )
    shell = client.create_microvm_shell_auth_token(microvmIdentifier=shells.id, expirationInMinutes=5)["authToken"]
    assert list(shell) == ["X-aws-proxy-auth"]
    shells.terminate()
    shells.wait_ended()
    assert called >= told_operations()


def tell_of_versions(client: Any, images: ImageMaker, image: Image) -> None:
    """Tag an image, give it a second version, change and delete versions."""
    client.tag_resource(Resource=image.arn, Tags={"tier": "one"})
    client.untag_resource(Resource=image.arn, TagKeys=["team", "never-there"])
    assert client.list_tags(Resource=image.arn)["Tags"] == {"tier": "one"}

    which = {"imageIdentifier": image.arn}
    request = images.request("updated", probe_files())
    del request["name"]
    updated = client.update_microvm_image(**which, **request)
    assert (updated["state"], updated["imageVersion"]) == ("UPDATING", "2.0")
    described = wait_for("the update has ended", lambda: settled(client, image), 200)
    assert (described["state"], described["latestActiveImageVersion"]) == ("UPDATED", "2.0")
    versions = [row["imageVersion"] for row in client.list_microvm_image_versions(**which)["items"]]
    assert versions == ["2.0", "1.0"]

    second = {**which, "imageVersion": "2.0"}
    assert client.update_microvm_image_version(**second, status="INACTIVE")["status"] == "INACTIVE"
    refused = refusal(client.run_microvm, **which)
    assert refused == (404, "ResourceNotFoundException", f"No active version found for MicroVM image {image.arn}")
    assert client.update_microvm_image_version(**second, status="ACTIVE")["status"] == "ACTIVE"

    assert client.delete_microvm_image_version(**which, imageVersion="1.0")["state"] == "DELETING"
    wait_for("the version is gone", lambda: settled(client, image), 20)
    assert [row["imageVersion"] for row in client.list_microvm_image_versions(**which)["items"]] == ["2.0"]
    status, code, _ = refusal(client.delete_microvm_image_version, **second)
    assert (status, code) == (400, "ValidationException")


def settled(client: Any, image: Image) -> dict[str, Any] | None:
    """Return the image unless it is being updated."""
    described: dict[str, Any] = client.get_microvm_image(imageIdentifier=image.arn)
    return None if described["state"] == "UPDATING" else described


@pytest.mark.rule("CreateMicrovmImage")
def test_creating_an_image_echoes_the_request_with_defaults(clients: Clients, images: ImageMaker) -> None:
    """The answer holds what was asked and what was filled in, as on AWS."""
    request = images.request("echo", {"x": ""})
    del request["resources"]
    answer = clients.microvms.create_microvm_image(**request)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["resources"] == [{"minimumMemoryInMiB": 2048}]
    assert answer["imageVersion"] == "1.0"
    assert answer["egressNetworkConnectors"][0].endswith(":INTERNET_EGRESS")
    assert {name: answer[name] for name in request if name != "clientToken"} == request
    image = Image(answer["name"], answer["imageArn"])
    images.wait(image)
    images.delete(image)


@pytest.mark.rule("CreateMicrovmImage", "GetMicrovmImageVersion", "ListMicrovmImageBuilds")
def test_an_image_for_arm_is_built_for_what_the_machine_has(clients: Clients, images: ImageMaker) -> None:
    """ARM_64 is taken and shown as it was asked for; the build shows the machine's processor, and its log says so."""
    arm = [{"architecture": "ARM_64"}]
    image = images.start("arm", {"x": ""}, cpuConfigurations=arm)
    where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    assert clients.microvms.get_microvm_image_version(**where)["cpuConfigurations"] == arm
    (build,) = clients.microvms.list_microvm_image_builds(**where | {"imageVersion": "1"})["items"]
    assert (build["architecture"], build["imageVersion"]) == ("X86_64", "1.0")
    images.wait(image)
    assert images.log(image, "FAILED")[0].startswith("NOTE: ARM_64 was asked for, and the image is built for X86_64")
    images.delete(image)


@pytest.mark.rule("DeleteMicrovmImage")
def test_an_image_that_is_being_built_cannot_be_deleted(clients: Clients, images: ImageMaker) -> None:
    """The refusal has AWS's text; afterwards the image can go."""
    slow = {"Dockerfile": 'FROM emberbox/debian:12\nRUN sleep 4 && false\nCMD ["true"]\n'}
    image = images.start("busy", slow)
    assert refusal(clients.microvms.delete_microvm_image, imageIdentifier=image.arn) == (
        400,
        "ValidationException",
        f"Cannot delete MicroVM image in its current state: {image.arn}",
    )
    images.wait(image)
    images.delete(image)


# --- pages


@pytest.mark.rule(
    "ListMicrovmImages",
    "ListMicrovmImageVersions",
    "ListMicrovmImageBuilds",
    "ListManagedMicrovmImages",
    "ListManagedMicrovmImageVersions",
    "ListMicrovms",
)
def test_lists_are_paged(
    clients: Clients, images: ImageMaker, launch: Launch, probe_image: Image, flask_image: Image
) -> None:
    """The paginators with pages of one give each item once, in the order of one large page."""
    microvms = [launch(probe_image, wait=False) for _ in range(3)]
    client = clients.microvms
    cases = {
        "list_microvm_images": ({}, "imageArn"),
        "list_microvm_image_versions": ({"imageIdentifier": probe_image.arn}, "imageVersion"),
        "list_microvm_image_builds": ({"imageIdentifier": probe_image.arn, "imageVersion": "1.0"}, "buildId"),
        "list_managed_microvm_images": ({}, "imageArn"),
        "list_managed_microvm_image_versions": ({"imageIdentifier": images.base_arn}, "imageVersion"),
        "list_microvms": ({"imageIdentifier": probe_image.arn}, "microvmId"),
    }
    for name, (parameters, key) in cases.items():
        paginator = client.get_paginator(name)
        whole = [row[key] for page in paginator.paginate(**parameters, maxResults=50) for row in page["items"]]
        pages = list(paginator.paginate(**parameters, maxResults=1))
        assert [row[key] for page in pages for row in page["items"]] == whole, name
        assert all(len(page["items"]) <= 1 for page in pages)
        assert len(set(whole)) == len(whole)
    assert {microvm.id for microvm in microvms} <= set(whole)
    for microvm in microvms:
        microvm.wait_state("RUNNING")


@pytest.mark.rule("ListMicrovmImages")
def test_the_name_filter_works_after_paging(clients: Clients, probe_image: Image, flask_image: Image) -> None:
    """As on AWS a page may be empty and still have a successor."""
    paginator = clients.microvms.get_paginator("list_microvm_images")
    pages = list(paginator.paginate(maxResults=1, nameFilter=probe_image.name))
    assert [item["imageArn"] for page in pages for item in page["items"]] == [probe_image.arn]
    assert len(pages) > 1


@pytest.mark.rule("ListMicrovms")
def test_a_foreign_page_token_is_refused(clients: Clients) -> None:
    """A token that we did not make, or of another list, is a ValidationException."""
    for token in ("nonsense", "AAAA" * 20):
        status, code, _ = refusal(clients.microvms.list_microvms, nextToken=token)
        assert (status, code) == (400, "ValidationException")


# --- client tokens


@pytest.mark.rule("RunMicrovm")
def test_the_same_client_token_runs_one_microvm(clients: Clients, launch: Launch, probe_image: Image) -> None:
    """A repeat with the same parameters gives the first microVM again; other parameters are a conflict."""
    token = str(uuid.uuid4())
    microvm = launch(probe_image, clientToken=token)
    again = clients.microvms.run_microvm(imageIdentifier=probe_image.arn, clientToken=token)
    assert (again["microvmId"], again["state"]) == (microvm.id, "RUNNING")
    other = {"imageIdentifier": probe_image.arn, "clientToken": token, "maximumDurationInSeconds": 60}
    status, code, _ = refusal(clients.microvms.run_microvm, **other)
    assert (status, code) == (409, "ConflictException")
    microvm.terminate()
    microvm.wait_ended()
    ended = clients.microvms.run_microvm(imageIdentifier=probe_image.arn, clientToken=token)
    assert (ended["microvmId"], ended["state"]) == (microvm.id, "TERMINATED")


@pytest.mark.rule("CreateMicrovmImage")
def test_the_same_client_token_makes_one_image(clients: Clients, images: ImageMaker) -> None:
    """A repeat with the same parameters gives the first image again; other parameters are a conflict.

    When the image is gone, the token makes another.
    """
    request = images.request("token", {"x": ""}, clientToken=str(uuid.uuid4()))
    first, second = (clients.microvms.create_microvm_image(**request) for _ in range(2))
    assert first["imageArn"] == second["imageArn"]
    status, code, _ = refusal(clients.microvms.create_microvm_image, **request | {"description": "other"})
    assert (status, code) == (409, "ConflictException")
    for created in (first, None):
        answer = created or clients.microvms.create_microvm_image(**request)
        assert answer["state"] == "CREATING"
        image = Image(answer["name"], answer["imageArn"])
        images.wait(image)
        images.delete(image)


# --- logs


@pytest.mark.rule("DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents")
def test_build_logs_are_read_like_cloudwatchs(clients: Clients, images: ImageMaker, probe_image: Image) -> None:
    """Groups, streams and events answer in the shape of the Logs model, and pages lose nothing."""
    group = f"/aws/lambda-microvms/{probe_image.name}"
    images.log(probe_image, "SUCCESSFUL")
    (found,) = clients.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found["logGroupName"] == group
    streams = [row["logStreamName"] for row in clients.logs.describe_log_streams(logGroupName=group)["logStreams"]]
    today = datetime.now(UTC)
    days = {f"{day:%Y/%m/%d}" for day in (today, today - timedelta(days=1))}
    assert all(name[:10] in days for name in streams)
    assert any("[0.0]" in name for name in streams)
    (build,) = [name for name in streams if "[0.0]" in name]
    whole = clients.logs.get_log_events(logGroupName=group, logStreamName=build, startFromHead=True)
    messages = [event["message"] for event in whole["events"]]
    assert messages[0].startswith("Fetching s3://")
    ended = clients.logs.get_log_events(
        logGroupName=group, logStreamName=build, startFromHead=True, nextToken=whole["nextForwardToken"]
    )
    assert (ended["events"], ended["nextForwardToken"]) == ([], whole["nextForwardToken"])
    pages = clients.logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNames=[build], PaginationConfig={"PageSize": 5}
    )
    assert [event["message"] for page in pages for event in page["events"]] == messages
    matching = clients.logs.filter_log_events(logGroupName=group, filterPattern='"Booting a microVM"')["events"]
    assert len(matching) == 1


@pytest.mark.rule("FilterLogEvents")
def test_an_unknown_log_group_is_not_found(clients: Clients) -> None:
    """The error is CloudWatch's."""
    refused = refusal(clients.logs.filter_log_events, logGroupName="/aws/lambda-microvms/missing")
    assert refused == (400, "ResourceNotFoundException", "The specified log group does not exist.")


@pytest.mark.rule("FilterLogEvents", "RunMicrovm")
def test_a_microvms_output_follows_while_it_runs(clients: Clients, launch: Launch, probe_image: Image) -> None:
    """What a microVM prints is in its log group a moment later, in a stream that names it; it can be turned off."""
    group = f"/aws/lambda-microvms/{probe_image.name}"
    loud = launch(probe_image, runHookPayload="printed-by-run")
    quiet = launch(probe_image, runHookPayload="never-printed", logging={"disabled": {}})

    def find() -> list[dict[str, Any]]:
        found = clients.logs.filter_log_events(logGroupName=group, filterPattern=loud.id)
        return [event for event in found["events"] if "printed-by-run" in event["message"]]

    (event,) = wait_for("its output is in the log", find, 20)
    assert event["logStreamName"].endswith(f"[1.0]{loud.id}")
    assert not clients.logs.filter_log_events(logGroupName=group, filterPattern=quiet.id)["events"]


def test_the_endpoints_file_and_the_services_agree(server: Server, clients: Clients) -> None:
    """What `runtime/endpoints.json` says is what boto3 talks to."""
    assert clients.microvms.meta.endpoint_url == server.endpoints["api_url"]
    assert server.endpoints["accelerator"] in ENGINE.accelerators
