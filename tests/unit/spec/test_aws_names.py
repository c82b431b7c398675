"""AWS's host names, as botocore's clients ask for them."""

from __future__ import annotations

import boto3
import pytest

from emberbox.s3.addressing import Addressing
from emberbox.spec.aws_names import aws_names
from emberbox.spec.models import AROUND, CORE, LOGS, MICROVMS


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_every_name_that_boto3_asks_for_is_there(region: str) -> None:
    names = aws_names(region)
    light = [service for service in (MICROVMS, CORE, LOGS, *AROUND) if service != "ec2"]  # its model is large
    for service in light:
        asked = boto3.client(service, region, aws_access_key_id="a", aws_secret_access_key="b").meta.endpoint_url
        assert asked.removeprefix("https://") in names.api
    assert {f"ec2.{region}.amazonaws.com", "sts.amazonaws.com", "iam.amazonaws.com"} <= set(names.api)
    assert {f"s3.{region}.amazonaws.com", "s3.amazonaws.com"} <= set(names.s3)
    assert len(set(names.patterns)) == len(names.patterns)


def test_the_embedded_s3_understands_each_name_of_a_bucket() -> None:
    addressing = Addressing("localhost")
    for name in aws_names("eu-west-1").s3:
        assert addressing.host_bucket(f"code.{name}") == "code"
        assert addressing.host_bucket(name) is None
