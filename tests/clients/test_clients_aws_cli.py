"""The AWS CLI: version 1 from PyPI; tests/conformance has version 2 of Debian."""

from __future__ import annotations

import pytest

from support.aws_cli import AwsCli
from support.images import BUILD_ROLE, Image, ImageMaker, make_zip, probe_files
from support.third_party import Desk

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "AWS CLI"


def test_from_a_zip_to_an_answer_by_the_endpoints_name(desk: Desk, probe_image: Image, images: ImageMaker) -> None:
    """From a zip to an answer by the endpoint's name.

    `s3 mb`, `s3 cp`, `s3 ls`, `create-microvm-image` for ARM_64, `run-microvm`, `create-microvm-auth-token` and curl by
    the endpoint's name without a port, `terminate-microvm`, `logs filter-log-events`, `sts`, `iam`, `service-quotas`.
    """
    aws = AwsCli(desk)
    (desk.directory / "app.zip").write_bytes(make_zip(probe_files()))
    aws.run("s3", "mb", "s3://by-the-cli")
    aws.run("s3", "cp", "app.zip", "s3://by-the-cli/app.zip")
    assert "app.zip" in aws.run("s3", "ls", "s3://by-the-cli/")
    aws.call(
        *("lambda-microvms", "create-microvm-image", "--name", "by-the-cli", "--base-image-arn", images.base_arn),
        *("--build-role-arn", BUILD_ROLE, "--code-artifact", "uri=s3://by-the-cli/app.zip"),
        *("--cpu-configurations", "architecture=ARM_64"),
    )
    microvm_id, answer = aws.ask_microvm(probe_image.arn)
    assert answer["hostname"] == microvm_id
    group = f"/aws/lambda-microvms/{probe_image.name}"
    assert aws.call("logs", "filter-log-events", "--log-group-name", group)["events"]
    assert aws.call("sts", "get-caller-identity")["Account"] == desk.environment["EMBERBOX_ACCOUNT_ID"]
    assert "Roles" in aws.call("iam", "list-roles")
    assert aws.call("service-quotas", "list-service-quotas", "--service-code", "lambda")["Quotas"]
