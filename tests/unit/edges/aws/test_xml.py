"""Answers in XML: botocore reads them as what a handler returned; what does not fit the model is not sent."""

from __future__ import annotations

import random
from typing import Any

import pytest

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import AuthenticationError, NotOfferedError, UnknownOperationError, WireError
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.xml import read_xml_code, serialise_xml_error, serialise_xml_result, serialise_xml_wire_error
from emberbox.model.errors import InternalError, NotFoundError, ServiceError, ThrottlingError, ValidationError
from emberbox.spec.models import EC2, IAM, STS, load_operation
from support.around import read_answer
from support.wire import example

ID = "11111111-2222-3333-4444-555555555555"
DIALECTS = {STS: Dialect.QUERY, IAM: Dialect.QUERY, EC2: Dialect.EC2}
OPERATIONS = [
    (STS, "GetCallerIdentity"),
    (STS, "AssumeRole"),
    (IAM, "GetRole"),
    (IAM, "ListRoles"),
    (IAM, "GetAccountSummary"),
    (IAM, "SimulatePrincipalPolicy"),
    (EC2, "DescribeVpcs"),
    (EC2, "DescribeSubnets"),
    (EC2, "DescribeSecurityGroups"),
]


def match_of(service: str, operation: str) -> Match:
    return Match(service, operation, load_operation(service, operation), {})


def result(service: str, operation: str, members: dict[str, Any]) -> Any:
    return serialise_xml_result(match_of(service, operation), DIALECTS[service], members, ID)


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_botocore_reads_what_a_handler_returned(service: str, operation: str) -> None:
    members = example(load_operation(service, operation).output_shape, random.Random(operation))
    answer = result(service, operation, members)
    parsed = read_answer(service, operation, answer)
    assert parsed.pop("ResponseMetadata")["RequestId"] == ID
    assert parsed == members


def test_an_answer_of_query_is_byte_for_byte_as_awss() -> None:
    answer = result(STS, "GetCallerIdentity", {"UserId": "U", "Account": "1", "Arn": "a<&>"})
    assert answer.body.decode() == (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        "<UserId>U</UserId><Account>1</Account><Arn>a&lt;&amp;&gt;</Arn></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>{ID}</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )


def test_an_answer_without_an_output_has_a_request_id() -> None:
    parsed = read_answer(IAM, "DeleteRole", result(IAM, "DeleteRole", {}))
    assert parsed["ResponseMetadata"]["RequestId"] == ID


def test_what_xml_cannot_hold_is_replaced() -> None:
    answer = result(STS, "GetCallerIdentity", {"Arn": "a\x00\x1b\ud800\rb"})
    assert read_answer(STS, "GetCallerIdentity", answer)["Arn"] == "a���\rb"


@pytest.mark.parametrize(
    "members", [{"Odd": 1}, {"Account": 1}, {"Account": ["1"]}], ids=["unknown", "no text", "a list"]
)
def test_what_does_not_fit_the_model_is_not_sent(members: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        result(STS, "GetCallerIdentity", members)
    with pytest.raises(TypeError):
        result(IAM, "ListRoles", {"Roles": "no list"})
    with pytest.raises(TypeError):
        result(IAM, "GetRole", {"Role": "no structure"})
    with pytest.raises(TypeError):
        result(IAM, "DeleteRole", {"Odd": 1})


def invalid_subnet() -> ServiceError:
    return type("Odd", (ServiceError,), {"code": "InvalidSubnetID.NotFound"})("gone")


@pytest.mark.parametrize(
    ("service", "operation", "error", "status", "code"),
    [
        (IAM, "GetRole", NotFoundError("gone"), 404, "NoSuchEntity"),
        (IAM, "CreatePolicy", ValidationError("bad"), 400, "InvalidInput"),
        (IAM, "GetRole", ValidationError("bad"), 400, "ValidationError"),
        (IAM, "GetRole", ThrottlingError("slow"), 400, "Throttling"),
        (IAM, "GetRole", InternalError("broken"), 500, "InternalFailure"),
        (EC2, "DescribeVpcs", ThrottlingError("slow"), 503, "RequestLimitExceeded"),
        (EC2, "DescribeSubnets", invalid_subnet(), 400, "InvalidSubnetID.NotFound"),
    ],
)
def test_errors_are_spelled_as_the_service_does(
    service: str, operation: str, error: ServiceError, status: int, code: str
) -> None:
    answer = serialise_xml_error(match_of(service, operation), DIALECTS[service], error, ID)
    assert (answer.status, read_xml_code(answer)) == (status, code)
    parsed = read_answer(service, operation, answer)
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (code, error.message)
    assert parsed["ResponseMetadata"]["RequestId"] == ID


@pytest.mark.parametrize(
    ("error", "dialect", "status", "code"),
    [
        (AuthenticationError("x"), Dialect.QUERY, 403, "SignatureDoesNotMatch"),
        (AuthenticationError("x"), Dialect.EC2, 401, "AuthFailure"),
        (AuthenticationError("x", "ExpiredTokenException"), Dialect.QUERY, 403, "ExpiredToken"),
        (NotOfferedError("iam", "X"), Dialect.QUERY, 400, "InvalidAction"),
        (NotOfferedError("s3", ""), Dialect.REST_XML, 501, "NotImplemented"),
        (UnknownOperationError(), Dialect.QUERY, 400, "InvalidAction"),
        (WireError("x", "Odd", 418), Dialect.QUERY, 418, "Odd"),
    ],
)
def test_refusals_of_the_wire_layer_are_spelled_so_too(
    error: WireError, dialect: Dialect, status: int, code: str
) -> None:
    answer = serialise_xml_wire_error(error, dialect, ID)
    assert (answer.status, read_xml_code(answer)) == (status, code)


def test_another_answer_has_no_code() -> None:
    assert read_xml_code(result(IAM, "DeleteRole", {})) == ""
