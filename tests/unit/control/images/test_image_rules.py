"""What an image's configuration is refused for beyond the model, and the defaults that it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from emberbox.control.images.commands import ImageConfiguration
from emberbox.control.images.rules import check_configuration
from emberbox.control.requests.tags import survives_failed_suspend
from emberbox.model.errors import ValidationError
from emberbox.model.hooks import Hook, HookName, HookSetting, HookSettings
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import ImageName
from emberbox.model.launch_requests import LogTarget

REGION = "us-east-1"
EGRESS = ["arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"]
ROLE = "arn:aws:iam::000000000000:role/build"
BASE = ImageName("debian12-1", named="the base")
ON, OFF = HookSetting(is_enabled=True), HookSetting(is_enabled=False)
READY = {HookName.READY: HookSetting(is_enabled=True, timeout_s=7)}


def check(tags: Mapping[str, str] | None = None, **more: Any) -> ImageRequest:
    asked = ImageConfiguration(**{"base": BASE, "build_role": ROLE, "artifact_uri": "s3://bucket/key"} | more)
    return check_configuration(asked, tags or {}, REGION, EGRESS, ["X86_64"])


def test_defaults_are_filled_in_and_the_rest_is_not_stated() -> None:
    assert check() == ImageRequest(
        region=REGION,
        base="debian12-1",
        base_version="1.0",
        build_role=ROLE,
        artifact_uri="s3://bucket/key",
        memory_mib=2048,
        egress=tuple(EGRESS),
    )
    assert check().hooks is None
    assert check().environment is None


def test_the_bases_version_is_asked_for_in_one_form_and_told_in_another() -> None:
    assert check(base_version="1").base_version == "1.0"
    assert check(base_version="0").base_version == "0.0"  # as CDK's packages of the first days have it


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"base_version": "1.0"}, "No managed MicroVM Image with arn the base and version 1.0 is available"),
        ({"base_version": "2"}, "No managed MicroVM Image with arn the base and version 2 is available"),
        ({"base": ImageName("", named="x")}, "No managed MicroVM Image with arn x and version 1 is available"),
        ({"memory_mib": 1000}, "The requested memory size of 1000 MiB is not supported by .* the base. Supported"),
        ({"memory_mib": 0}, "The requested memory size of 0 MiB is not supported"),
        ({"artifact_uri": "s3://bucket"}, "must be a valid S3 URI"),
        ({"artifact_uri": "S3://bucket/key"}, "must be a valid S3 URI"),
        ({"artifact_uri": "oci://registry.test/Upper"}, "CodeArtifact URI must name an image in the format: oci://"),
        ({"artifact_uri": "docker://"}, "CodeArtifact URI must name an image in the format: oci://"),
        ({"environment": {"AWS_REGION": "x"}}, "key 'AWS_REGION' is reserved"),
        ({"environment": {"AWS_LAMBDA_MICROVM_ID": "x"}}, "key 'AWS_LAMBDA_MICROVM_ID' is reserved"),
        ({"hooks": HookSettings(1, {HookName.SUSPEND: ON})}, r"The ready \(/ready\) MicroVM image hook"),
        ({"hooks": HookSettings(1, {HookName.RUN: ON}, {HookName.READY: OFF})}, r"The ready \(/ready\) MicroVM image"),
        ({"hooks": HookSettings(build=READY)}, "port must be specified"),
        ({"architectures": ("X86_64", "ARM_64")}, "ARM_64 is not available on this machine"),
        ({"kms_key": "alias/key"}, "KMS keys are not available here"),
    ],
)
def test_a_broken_rule_is_named(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        check(**more)


def test_an_image_of_a_registry_is_taken_as_it_was_named() -> None:
    assert check(artifact_uri="docker://registry.test/x:1").artifact_uri == "docker://registry.test/x:1"


def test_the_tag_for_failed_suspends_takes_two_values() -> None:
    key = "emberbox:suspend-hook-failure"
    check({key: "keep-running"})
    check({key: "terminate"})
    assert survives_failed_suspend({key: "keep-running"})
    assert not survives_failed_suspend({key: "terminate"})
    assert not survives_failed_suspend({})
    with pytest.raises(ValidationError, match=f"The value 'no' of the tag '{key}' must be terminate or keep-running"):
        check({key: "no"})


def test_variables_that_only_look_reserved_are_allowed() -> None:
    variables = {"AWS_REGIONAL": "x", "AWS_LAMBDA": "x", "MY_AWS_REGION": "x"}
    assert check(environment=variables).environment == variables


def test_disabled_hooks_need_neither_ready_nor_port() -> None:
    disabled = check(hooks=HookSettings(runtime={HookName.RUN: OFF, HookName.RESUME: HookSetting(timeout_s=3)}))
    assert all(disabled.find_hook(name) is None for name in HookName)


def test_hooks_are_found_with_their_timeouts() -> None:
    checked = check(hooks=HookSettings(9000, {HookName.RUN: ON, HookName.SUSPEND: OFF}, READY))
    assert checked.find_hook(HookName.READY) == Hook("ready", 9000, 7)
    assert checked.find_hook(HookName.RUN) == Hook("run", 9000, 1)
    assert checked.find_hook(HookName.SUSPEND) is None
    assert checked.find_hook(HookName.VALIDATE) is None
    assert check().find_hook(HookName.RUN) is None
    validated = check(hooks=HookSettings(9000, build={HookName.VALIDATE: ON}))
    assert validated.find_hook(HookName.VALIDATE) == Hook("validate", 9000, 30)


def test_the_size_follows_from_the_memory() -> None:
    size = check(memory_mib=8192).size
    assert (size.vcpu_count, size.mem_size_mib) == (16, 32768)


def test_all_capabilities_are_had_where_they_are_asked_for() -> None:
    assert check(capabilities=("ALL",)).has_all_capabilities
    assert not check(capabilities=()).has_all_capabilities
    assert not check().has_all_capabilities


@pytest.mark.parametrize(
    ("target", "group"),
    [
        (None, "/aws/lambda-microvms/name"),
        (LogTarget(), "/aws/lambda-microvms/name"),
        (LogTarget(group="mine"), "mine"),
        (LogTarget(is_on=False), "/aws/lambda-microvms/name"),
    ],
)
def test_the_log_group_is_the_images_or_the_default(target: LogTarget | None, group: str) -> None:
    assert check(log_target=target).log_group("name") == group
