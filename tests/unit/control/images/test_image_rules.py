"""What CreateMicrovmImage refuses beyond the model, and the defaults that it fills in."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.control.images.rules import (
    build_log_group,
    check_image_request,
    find_hook,
    size_of,
)
from emberbox.control.requests.tags import survives_failed_suspend
from emberbox.model.errors import ValidationError
from emberbox.model.hooks import Hook

REGION = "us-east-1"
EGRESS = ["arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"]
READY = {"ready": "ENABLED", "readyTimeoutInSeconds": 7}


def request(**more: Any) -> dict[str, Any]:
    return {
        "name": "image",
        "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:debian12-1",
        "buildRoleArn": "arn:aws:iam::000000000000:role/build",
        "codeArtifact": {"uri": "s3://bucket/key"},
        **more,
    }


def test_defaults_are_filled_in_and_the_rest_is_null() -> None:
    checked = check_image_request(request(), REGION, EGRESS)
    assert checked["resources"] == [{"minimumMemoryInMiB": 2048}]
    assert checked["baseImageVersion"] == "1.0"
    assert checked["egressNetworkConnectors"] == EGRESS
    for name in ("hooks", "logging", "environmentVariables", "cpuConfigurations", "description"):
        assert checked[name] is None
    assert "name" not in checked


@pytest.mark.parametrize("version", ["1", "1.0"])
def test_both_spellings_of_the_base_version_are_known(version: str) -> None:
    assert check_image_request(request(baseImageVersion=version), REGION, EGRESS)["baseImageVersion"] == "1.0"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"baseImageVersion": "2"}, "No managed MicroVM Image with arn .* and version 2 is available"),
        ({"baseImageArn": "arn:aws:lambda:eu-west-1:aws:microvm-image:debian12-1"}, "No managed MicroVM Image"),
        ({"resources": [{"minimumMemoryInMiB": 1000}]}, "The requested memory size of 1000 MiB is not supported"),
        ({"codeArtifact": {"uri": "s3://bucket"}}, "must be a valid S3 URI"),
        ({"codeArtifact": {"uri": "S3://bucket/key"}}, "must be a valid S3 URI"),
        ({"environmentVariables": {"AWS_REGION": "x"}}, "key 'AWS_REGION' is reserved"),
        ({"environmentVariables": {"AWS_LAMBDA_MICROVM_ID": "x"}}, "key 'AWS_LAMBDA_MICROVM_ID' is reserved"),
        ({"hooks": {"port": 1, "microvmHooks": {"suspend": "ENABLED"}}}, r"The ready \(/ready\) MicroVM image hook"),
        ({"hooks": {"microvmImageHooks": READY}}, "port must be specified"),
        ({"cpuConfigurations": [{"architecture": "ARM_64"}]}, "ARM_64 is not available on this machine"),
        ({"kmsKeyIdentifier": "alias/key"}, "KMS keys are not available here"),
    ],
)
def test_a_broken_rule_is_named(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        check_image_request(request(**more), REGION, EGRESS)


def test_the_tag_for_failed_suspends_takes_two_values() -> None:
    key = "emberbox:suspend-hook-failure"
    check_image_request(request(tags={key: "keep-running"}), REGION, EGRESS)
    check_image_request(request(tags={key: "terminate"}), REGION, EGRESS)
    assert survives_failed_suspend({key: "keep-running"})
    assert not survives_failed_suspend({key: "terminate"})
    assert not survives_failed_suspend({})
    with pytest.raises(ValidationError, match=f"The value 'no' of the tag '{key}' must be terminate or keep-running"):
        check_image_request(request(tags={key: "no"}), REGION, EGRESS)


def test_variables_that_only_look_reserved_are_allowed() -> None:
    variables = {"AWS_REGIONAL": "x", "AWS_LAMBDA": "x", "MY_AWS_REGION": "x"}
    assert (
        check_image_request(request(environmentVariables=variables), REGION, EGRESS)["environmentVariables"]
        == variables
    )


def test_disabled_hooks_need_neither_ready_nor_port() -> None:
    check_image_request(request(hooks={"microvmHooks": {"run": "DISABLED"}}), REGION, EGRESS)


def test_hooks_are_found_with_their_timeouts() -> None:
    hooks = {"port": 9000, "microvmImageHooks": READY, "microvmHooks": {"run": "ENABLED", "suspend": "DISABLED"}}
    checked = check_image_request(request(hooks=hooks), REGION, EGRESS)
    assert find_hook(checked, "ready") == Hook("ready", 9000, 7)
    assert find_hook(checked, "run") == Hook("run", 9000, 1)
    assert find_hook(checked, "suspend") is None
    assert find_hook(checked, "validate") is None
    assert find_hook(check_image_request(request(), REGION, EGRESS), "run") is None


def test_the_size_follows_from_the_memory() -> None:
    checked = check_image_request(request(resources=[{"minimumMemoryInMiB": 8192}]), REGION, EGRESS)
    assert (size_of(checked).vcpu_count, size_of(checked).mem_size_mib) == (16, 32768)


@pytest.mark.parametrize(
    ("logging", "group"),
    [
        (None, "/aws/lambda-microvms/name"),
        ({"cloudWatch": {}}, "/aws/lambda-microvms/name"),
        ({"cloudWatch": {"logGroup": "mine"}}, "mine"),
        ({"disabled": {}}, "/aws/lambda-microvms/name"),
    ],
)
def test_the_log_group_is_the_images_or_the_default(logging: dict[str, Any] | None, group: str) -> None:
    assert build_log_group("name", {"logging": logging}) == group
