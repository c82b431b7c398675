"""The protocol that a request speaks, told from its head."""

from __future__ import annotations

import pytest

from emberbox.edges.aws.dialects import FORM, Dialect, claimed_signing_name, read_dialect
from emberbox.edges.aws.http import HttpRequest


def head(method: str = "POST", path: str = "/", query: str = "", service: str = "", **headers: str) -> HttpRequest:
    if service:
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential=AK/20260101/r/{service}/aws4_request, SignedHeaders=host"
        )
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpRequest(method, path, query, named, b"")


@pytest.mark.parametrize(
    ("request_head", "dialect"),
    [
        (head(x_amz_target="AmazonSSM.GetParameter", service="ssm"), Dialect.JSON),
        (head(content_type=FORM, service="sts"), Dialect.QUERY),
        (head(content_type=f"{FORM}; charset=utf-8", service="iam"), Dialect.QUERY),
        (head(content_type=FORM), Dialect.QUERY),
        (head("GET", query="Action=GetCallerIdentity&Version=1", service="sts"), Dialect.QUERY),
        (head(content_type=FORM, service="ec2"), Dialect.EC2),
        (head("GET", service="s3"), Dialect.REST_XML),
        (head("GET", "/2013-04-01/hostedzone", service="route53"), Dialect.REST_XML),
        (head(path="/2025-09-09/microvms", service="lambda"), Dialect.REST_JSON),
        (head(path="/2025-09-09/microvms", content_type=FORM, service="lambda"), Dialect.REST_JSON),
        (head("GET", "/restapis", service="apigateway"), Dialect.REST_JSON),
        (head("GET"), Dialect.REST_JSON),
        (head(path="/service/X/operation/Y", smithy_protocol="rpc-v2-cbor", service="monitoring"), Dialect.CBOR),
    ],
)
def test_a_head_says_its_protocol(request_head: HttpRequest, dialect: Dialect) -> None:
    assert read_dialect(request_head) is dialect


@pytest.mark.parametrize(
    ("request_head", "name"),
    [
        (head(service="sts"), "sts"),
        (head(query="X-Amz-Credential=AK%2F20260101%2Fr%2Fiam%2Faws4_request"), "iam"),
        (head(authorization="AWS4-HMAC-SHA256 Credential=AK/x, SignedHeaders=host"), ""),
        (head(authorization="Bearer x"), ""),
        (head(), ""),
    ],
)
def test_a_head_says_the_service_that_it_was_signed_for(request_head: HttpRequest, name: str) -> None:
    assert claimed_signing_name(request_head) == name
