"""Bad input: each refused with AWS's status, code and text, before anything is made."""

from __future__ import annotations

from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config

from support.aws import Clients, refusal
from support.guests import Microvm
from support.images import READY_HOOK, Image, ImageMaker
from support.server import Server

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

ARN = "arn:aws:lambda:us-east-1:000000000000:microvm-image"
MISSING = f"{ARN}:missing"
NO_MICROVM = "microvm-00000000-0000-0000-0000-000000000000"
VALIDATION = (400, "ValidationException")
NOT_FOUND = (404, "ResourceNotFoundException")
RUN_HOOK_ALONE = {"port": 9000, "microvmHooks": {"run": "ENABLED"}}
IMAGE_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "unsupported size": (
        {"resources": [{"minimumMemoryInMiB": 3072}]},
        (
            "The requested memory size of 3072 MiB is not supported by base MicroVM image {base}. "
            "Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."
        ),
    ),
    "reserved variable": (
        {"environmentVariables": {"AWS_REGION": "x"}},
        "Environment variable key 'AWS_REGION' is reserved",
    ),
    "reserved prefix": (
        {"environmentVariables": {"AWS_LAMBDA_MICROVM_X": "x"}},
        "Environment variable key 'AWS_LAMBDA_MICROVM_X' is reserved",
    ),
    "runtime hook without ready": (
        {"hooks": RUN_HOOK_ALONE},
        (
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook "
            "(run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished "
            "initializing so the snapshot is taken in a ready state."
        ),
    ),
    "hook without port": (
        {"hooks": {"microvmImageHooks": READY_HOOK["microvmImageHooks"]}},
        "The hooks port must be specified when any hook is enabled",
    ),
    "not an S3 URI": (
        {"codeArtifact": {"uri": "https://example.com/a.zip"}},
        "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
    ),
    "unknown base version": (
        {"baseImageVersion": "7"},
        "No managed MicroVM Image with arn {base} and version 7 is available",
    ),
    "malformed connector": (
        {"egressNetworkConnectors": ["INTERNET_EGRESS"]},
        "Malformed network connector ARN",
    ),
    "name with a space": (
        {"name": "two words"},
        (
            "1 validation error detected: Value 'two words' at 'name' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"
        ),
    ),
}


@pytest.mark.parametrize("case", IMAGE_CASES)
@pytest.mark.rule("CreateMicrovmImage")
def test_a_bad_image_request_is_refused(clients: Clients, images: ImageMaker, case: str) -> None:
    """The refusal is synchronous, has AWS's text, and no image is left behind."""
    more, text = IMAGE_CASES[case]
    request = images.request("refused", "s3://code/any.zip") | more
    refused = refusal(clients.microvms.create_microvm_image, **request)
    assert refused == (*VALIDATION, text.format(base=images.base_arn))
    names = {item["name"] for item in clients.microvms.list_microvm_images(maxResults=50)["items"]}
    assert request["name"] not in names


@pytest.mark.rule("CreateMicrovmImage")
def test_an_unknown_base_image_is_refused(clients: Clients, images: ImageMaker) -> None:
    """The base must be a managed image that is here."""
    base = "arn:aws:lambda:us-east-1:aws:microvm-image:debian99-1"
    request = images.request("refused", "s3://code/any.zip") | {"baseImageArn": base}
    text = f"No managed MicroVM Image with arn {base} and version 1 is available"
    assert refusal(clients.microvms.create_microvm_image, **request) == (*VALIDATION, text)


@pytest.mark.rule("CreateMicrovmImage")
def test_a_taken_name_is_refused(clients: Clients, images: ImageMaker, probe_image: Image) -> None:
    """Names are unique per account and region."""
    request = images.request("any", "s3://code/any.zip") | {"name": probe_image.name}
    text = f"A MicroVM image with the name '{probe_image.name}' already exists in this account"
    assert refusal(clients.microvms.create_microvm_image, **request) == (*VALIDATION, text)


IDENTIFIERS = {
    "a bare name": ("missing", *VALIDATION, "Invalid ARN format: missing"),
    "a malformed ARN": (f"{ARN}:a:b:c", *VALIDATION, f"Invalid ARN format: {ARN}:a:b:c"),
    "no ARN of ours": ("arn:aws:s3:::bucket", *VALIDATION, "Invalid ARN format: arn:aws:s3:::bucket"),
    "an unknown image": (MISSING, *NOT_FOUND, f"MicroVMImage not found for MicroVMImageID: {MISSING}"),
}


@pytest.mark.parametrize("case", IDENTIFIERS)
@pytest.mark.rule("GetMicrovmImage", "DeleteMicrovmImage")
def test_a_bad_image_identifier_is_refused(clients: Clients, case: str) -> None:
    """Image operations take ARNs only."""
    identifier, *expected = IDENTIFIERS[case]
    for operation in (clients.microvms.get_microvm_image, clients.microvms.delete_microvm_image):
        refused = refusal(operation, imageIdentifier=identifier)
        if case == "a malformed ARN":
            assert refused[:2] in ((400, "ValidationException"), (403, "AccessDeniedException"))
        else:
            assert refused == tuple(expected)


@pytest.mark.rule("GetMicrovmImage")
def test_a_foreign_image_is_denied(clients: Clients) -> None:
    """Another account's image, or one of another region, is not ours to see."""
    for arn in (MISSING.replace("000000000000", "111111111111"), MISSING.replace("us-east-1", "eu-west-1")):
        assert refusal(clients.microvms.get_microvm_image, imageIdentifier=arn)[:2] == (403, "AccessDeniedException")


@pytest.mark.rule("RunMicrovm")
def test_launching_what_is_not_there_is_refused(clients: Clients, probe_image: Image) -> None:
    """Unknown image, wrong version, bare name: each with AWS's text."""
    run = clients.microvms.run_microvm
    text = f"No active version found for MicroVM image {MISSING}"
    assert refusal(run, imageIdentifier=MISSING) == (*NOT_FOUND, text)
    text = f"No active version found for MicroVM image {probe_image.arn} and version 9.0"
    assert refusal(run, imageIdentifier=probe_image.arn, imageVersion="9.0") == (*NOT_FOUND, text)
    assert refusal(run, imageIdentifier="probe") == (*VALIDATION, "Malformed ARN - doesn't start with 'arn:'")


@pytest.mark.rule("GetMicrovmImageVersion", "GetMicrovmImageBuild")
def test_an_unknown_version_or_build_is_not_found(clients: Clients, probe_image: Image) -> None:
    """GetMicrovmImageVersion and GetMicrovmImageBuild answer 404 with AWS's text."""
    image = {"imageIdentifier": probe_image.arn}
    text = f"MicroVMImage not found for MicroVMImage: {probe_image.arn}, Version: 2.0"
    refused = refusal(clients.microvms.get_microvm_image_version, **image, imageVersion="2.0")
    assert refused == (*NOT_FOUND, text)
    build = {"imageVersion": "1.0", "buildId": "00000000-0000-0000-0000-000000000000"}
    assert refusal(clients.microvms.get_microvm_image_build, **image, **build)[:2] == NOT_FOUND


RUN_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "payload too long": (
        {"runHookPayload": "x" * 4097},
        (
            "1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: "
            "Member must have length less than or equal to 4096"
        ),
    ),
    "duration out of range": (
        {"maximumDurationInSeconds": 28801},
        (
            "1 validation error detected: Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: "
            "Member must have value less than or equal to 28800"
        ),
    ),
    "idle time too short": (
        {"idlePolicy": {"maxIdleDurationSeconds": 59, "suspendedDurationSeconds": 1, "autoResumeEnabled": True}},
        (
            "1 validation error detected: Value '59' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy "
            "constraint: Member must have value greater than or equal to 60"
        ),
    ),
    "idle time too long": (
        {"idlePolicy": {"maxIdleDurationSeconds": 28801, "suspendedDurationSeconds": 1, "autoResumeEnabled": True}},
        (
            "1 validation error detected: Value '28801' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy "
            "constraint: Member must have value less than or equal to 28800"
        ),
    ),
    "incomplete idle policy": (
        {"idlePolicy": {"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 1}},
        (
            "1 validation error detected: Value null at 'idlePolicy.autoResumeEnabled' failed to satisfy constraint: "
            "Member must not be null"
        ),
    ),
    "logging without a role": (
        {"logging": {"cloudWatch": {"logGroup": "a"}}},
        "Logging cannot be enabled without providing executionRoleArn",
    ),
    "malformed connector": (
        {"ingressNetworkConnectors": ["HTTP_INGRESS"]},
        "Malformed network connector ARN",
    ),
}


@pytest.fixture(scope="module")
def unchecked(server: Server) -> Any:
    """A client that does not check parameters itself, so that the server's answer is seen."""
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1}, proxies={})
    url = server.endpoints["api_url"]
    return boto3.client("lambda-microvms", endpoint_url=url, config=config, **server.credentials())


@pytest.mark.parametrize("case", RUN_CASES)
@pytest.mark.rule("RunMicrovm")
def test_a_bad_launch_is_refused(unchecked: Any, probe_image: Image, case: str) -> None:
    """A field that is missing or out of range is named, in AWS's words."""
    more, text = RUN_CASES[case]
    assert refusal(unchecked.run_microvm, imageIdentifier=probe_image.arn, **more) == (*VALIDATION, text)


@pytest.mark.rule("CreateMicrovmImage")
def test_missing_fields_are_all_named(unchecked: Any) -> None:
    """One answer names every missing field, in AWS's order."""
    text = "; ".join(
        f"Value null at '{name}' failed to satisfy constraint: Member must not be null"
        for name in ("baseImageArn", "codeArtifact", "buildRoleArn")
    )
    refused = refusal(unchecked.create_microvm_image, name="x")
    assert refused == (*VALIDATION, f"3 validation errors detected: {text}")


@pytest.mark.rule("GetMicrovm", "SuspendMicrovm", "ResumeMicrovm", "TerminateMicrovm")
def test_an_unknown_microvm_is_not_found(clients: Clients) -> None:
    """Every operation on an unknown microVM answers 404 with AWS's text."""
    client, text = clients.microvms, f"MicroVM not found: {NO_MICROVM}"
    for operation in (
        client.get_microvm,
        client.suspend_microvm,
        client.resume_microvm,
        client.terminate_microvm,
    ):
        assert refusal(operation, microvmIdentifier=NO_MICROVM) == (*NOT_FOUND, text)


@pytest.mark.rule("CreateMicrovmAuthToken")
def test_a_token_has_bounds(clients: Clients, probe: Microvm) -> None:
    """More than 60 minutes, an empty list, a range upside down: refused."""
    mint = clients.microvms.create_microvm_auth_token
    common = {"microvmIdentifier": probe.id, "allowedPorts": [{"port": 80}]}
    text = "ExpirationMinutes 61 exceeded max allowed of 60."
    assert refusal(mint, **common, expirationInMinutes=61) == (*VALIDATION, text)
    upside_down = {"range": {"startPort": 90, "endPort": 80}}
    refused = refusal(mint, **common | {"allowedPorts": [upside_down]}, expirationInMinutes=5)
    assert refused[:2] == VALIDATION


def test_a_wrong_key_or_secret_is_refused(server: Server) -> None:
    """An unknown key and a wrong signature get AWS's codes, and nothing is done."""
    credentials = server.credentials()
    unknown = credentials | {"aws_access_key_id": "AKIAUNKNOWN000000000"}
    forged = credentials | {"aws_secret_access_key": "forged"}
    for wrong, codes in (
        (unknown, {"UnrecognizedClientException"}),
        (forged, {"InvalidSignatureException"}),
    ):
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        client = boto3.client("lambda-microvms", endpoint_url=server.endpoints["api_url"], config=config, **wrong)
        status, code, _ = refusal(client.list_microvms)
        assert status == 403
        assert code in codes


def test_an_unsigned_request_is_refused(server: Server) -> None:
    """Without a signature nothing is told, whatever the path."""
    import urllib.error

    for path in ("/2025-09-09/microvms", "/2025-09-09/microvm-images", "/", "/anything"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urlopen(Request(server.endpoints["api_url"] + path), timeout=10)
        assert caught.value.code in (403, 404)
        assert b"Traceback" not in caught.value.read()
