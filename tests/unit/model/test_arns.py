"""ARNs and ids."""

from __future__ import annotations

import re
import uuid

import pytest

from emberbox.model.arns import (
    EGRESS_CONNECTORS,
    INGRESS_CONNECTORS,
    check_image_arn,
    check_managed_connector,
    connector_arn,
    endpoint_host,
    image_arn,
    is_managed_connector,
    managed_connector_arn,
    managed_image_arn,
    managed_image_name,
    new_connector_id,
    new_microvm_id,
    split_connector_arn,
)
from emberbox.model.errors import AccessDeniedError, ValidationError

REGION, ACCOUNT = "us-east-1", "123456789012"
OURS = "arn:aws:lambda:us-east-1:123456789012:microvm-image:my-image_1"


def test_the_forms_are_awss() -> None:
    assert image_arn(REGION, ACCOUNT, "my-image_1") == OURS
    assert managed_image_arn(REGION, "al2023-1") == "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"
    assert managed_connector_arn(REGION, "HTTP_INGRESS") == (
        "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS"
    )
    assert endpoint_host("label", REGION, "localhost") == "label.lambda-microvm.us-east-1.localhost"


def test_a_managed_image_is_named_by_its_arn_in_the_region() -> None:
    arn = managed_image_arn(REGION, "al2023-1")
    assert managed_image_name(arn, REGION) == "al2023-1"
    for text in ("al2023-1", OURS, managed_image_arn("eu-west-9", "al2023-1"), arn.replace("arn:aws:", "arn:aws-cn:")):
        assert managed_image_name(text, REGION) == ""


def test_microvm_ids_are_unique_and_hold_a_uuid() -> None:
    ids = {new_microvm_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(str(uuid.UUID(text.removeprefix("microvm-"))) in text for text in ids)


def test_an_arn_of_ours_is_accepted() -> None:
    assert check_image_arn(OURS, REGION, ACCOUNT) == OURS


@pytest.mark.parametrize(
    "text",
    [
        OURS.replace(ACCOUNT, "999999999999"),
        OURS.replace(REGION, "eu-west-1"),
        OURS.replace("image:my", "image/my"),
        managed_image_arn(REGION, "al2023-1"),
    ],
)
def test_what_is_not_the_callers_is_denied(text: str) -> None:
    with pytest.raises(AccessDeniedError):
        check_image_arn(text, REGION, ACCOUNT)


@pytest.mark.parametrize("text", ["", "my-image", "arn:", "arn:aws:s3:::bucket", f"x{OURS}"])
def test_what_is_no_arn_of_an_image_is_invalid(text: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"Invalid ARN format: {text}")):
        check_image_arn(text, REGION, ACCOUNT)


def test_a_launch_words_its_refusal_of_a_name_differently() -> None:
    with pytest.raises(ValidationError, match="Malformed ARN - doesn't start with 'arn:'"):
        check_image_arn("my-image", REGION, ACCOUNT, launching=True)


def test_managed_connectors_are_checked_by_direction() -> None:
    egress = managed_connector_arn(REGION, "INTERNET_EGRESS")
    assert check_managed_connector(egress, EGRESS_CONNECTORS, REGION) == egress
    assert is_managed_connector(egress)
    for text in (egress, managed_connector_arn("eu-west-1", "HTTP_INGRESS"), connector_arn(REGION, ACCOUNT, "nc-1")):
        with pytest.raises(ValidationError, match="Unrecognized managed network connector ARN: arn:"):
            check_managed_connector(text, INGRESS_CONNECTORS, REGION)
    with pytest.raises(ValidationError, match="Malformed network connector ARN"):
        check_managed_connector("INTERNET_EGRESS", EGRESS_CONNECTORS, REGION)


def test_a_connectors_arn_holds_its_id_and_maybe_a_version() -> None:
    connector = new_connector_id()
    arn = connector_arn(REGION, ACCOUNT, connector)
    assert not is_managed_connector(arn)
    assert split_connector_arn(arn, REGION, ACCOUNT) == (connector, None)
    assert split_connector_arn(f"{arn}:7", REGION, ACCOUNT) == (connector, 7)
    for foreign in (connector_arn(REGION, "111111111111", connector), connector_arn("eu-west-1", ACCOUNT, connector)):
        with pytest.raises(AccessDeniedError):
            split_connector_arn(foreign, REGION, ACCOUNT)
    for malformed in ("nc-1", f"{arn}:0", f"{arn}:7:7", f"{arn}:x", arn.replace("lambda", "logs")):
        with pytest.raises(ValidationError, match="Malformed network connector ARN"):
            split_connector_arn(malformed, REGION, ACCOUNT)
