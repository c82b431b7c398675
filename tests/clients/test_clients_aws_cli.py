"""The AWS CLI: version 1 from PyPI; tests/conformance has version 2 of Debian."""

from __future__ import annotations

import json

import pytest

from support.images import BUILD_ROLE, Image, ImageMaker, make_zip, probe_files
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "AWS CLI"


def test_from_a_zip_to_an_answer_by_the_endpoints_name(desk: Desk, probe_image: Image, images: ImageMaker) -> None:
    """From a zip to an answer by the endpoint's name.

    `s3 mb`, `s3 cp`, `s3 ls`, `create-microvm-image` for ARM_64, `run-microvm`, `create-microvm-auth-token` and curl by
    the endpoint's name without a port, `terminate-microvm`, `logs filter-log-events`, `sts`, `iam`, `service-quotas`.
    """
    aws = install_python(read_clients()[CLIENT]) / "aws"

    def call(*arguments: str) -> dict[str, object]:
        answer: dict[str, object] = json.loads(desk.run(aws, *arguments, "--output", "json") or "{}")
        return answer

    (desk.directory / "app.zip").write_bytes(make_zip(probe_files()))
    desk.run(aws, "s3", "mb", "s3://by-the-cli")
    desk.run(aws, "s3", "cp", "app.zip", "s3://by-the-cli/app.zip")
    assert "app.zip" in desk.run(aws, "s3", "ls", "s3://by-the-cli/")
    call(
        *("lambda-microvms", "create-microvm-image", "--name", "by-the-cli", "--base-image-arn", images.base_arn),
        *("--build-role-arn", BUILD_ROLE, "--code-artifact", "uri=s3://by-the-cli/app.zip"),
        *("--cpu-configurations", "architecture=ARM_64"),
    )
    run = call("lambda-microvms", "run-microvm", "--image-identifier", probe_image.arn)
    which = ("--microvm-identifier", str(run["microvmId"]))
    assert ":" not in str(run["endpoint"]), "it is served at 443"
    token = call(
        *("lambda-microvms", "create-microvm-auth-token", *which, "--expiration-in-minutes", "5"),
        *("--allowed-ports", "port=8080"),
    )
    (value,) = dict(token["authToken"]).values()  # type: ignore[call-overload]  # JSON
    header = f"X-aws-proxy-auth: {value}"
    asked = ("--retry", "20", "--retry-all-errors", "--retry-delay", "1", "-fsS", "-H", header)
    assert json.loads(desk.run("curl", *asked, f"https://{run['endpoint']}/"))["hostname"] == run["microvmId"]
    call("lambda-microvms", "terminate-microvm", *which)
    group = f"/aws/lambda-microvms/{probe_image.name}"
    assert call("logs", "filter-log-events", "--log-group-name", group)["events"]
    assert call("sts", "get-caller-identity")["Account"] == desk.environment["EMBERBOX_ACCOUNT_ID"]
    assert "Roles" in call("iam", "list-roles")
    assert call("service-quotas", "list-service-quotas", "--service-code", "lambda")["Quotas"]
