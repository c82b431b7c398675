"""Services around at the API's one port: whose operation is meant, and refusals in the service's own protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.parsers import create_parser

from emberbox.edges.aws.around import BY_SIGNING_NAME
from emberbox.edges.aws.server import create_api
from emberbox.model.iam.access import Credential
from emberbox.spec.models import (
    AROUND,
    CLOUDWATCH,
    EC2,
    IAM,
    QUOTAS,
    STS,
    load_operation,
    load_service,
    operation_names,
)
from support.around import Around, around_request, read_answer
from support.control_plane import ControlPlane
from support.wire import KEY, REGION, as_http, call, sign

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, KEY, REGION)
    yield plane
    await plane.close()


def signed(method: str, path: str, service: str, body: str = "", key: Credential = KEY, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, f"http://emberbox.test{path}", data=body, headers=named)
    return as_http(sign(request, key, service=service))


def test_each_service_is_found_by_what_it_is_signed_for() -> None:
    assert {load_service(service).signing_name: service for service in AROUND} == BY_SIGNING_NAME


async def test_every_offered_operation_is_one_of_the_model(plane: ControlPlane) -> None:
    handlers = plane.handlers()
    for service in AROUND:
        assert handlers[service]
        assert set(handlers[service]) <= set(operation_names(service))


@pytest.mark.parametrize(
    ("service", "operation", "status", "code"),
    [
        (STS, "GetFederationToken", 400, "InvalidAction"),
        (IAM, "CreateUser", 400, "InvalidAction"),
        (EC2, "RunInstances", 400, "InvalidAction"),
        (QUOTAS, "RequestServiceQuotaIncrease", 404, "UnknownOperationException"),
        (CLOUDWATCH, "PutMetricAlarm", 404, "UnknownOperationException"),
    ],
)
async def test_what_is_not_offered_says_so_as_its_service_does(
    plane: ControlPlane, service: str, operation: str, status: int, code: str
) -> None:
    name = load_service(service).signing_name
    text = f"{operation} of {name} is not offered by Emberbox; docs/services.md lists what is."
    assert await Around(plane.app(), KEY).refused(service, operation) == (status, code, text)


@pytest.mark.parametrize(
    ("service", "operation", "status", "code"),
    [
        ("ssm", "DescribeParameters", 404, "UnknownOperationException"),
        ("cloudformation", "ListStackSets", 400, "InvalidAction"),
        ("secretsmanager", "ListSecrets", 404, "UnknownOperationException"),
        ("dynamodb", "ListTables", 404, "UnknownOperationException"),
        ("apigateway", "GetRestApis", 404, "UnknownOperationException"),
        ("s3", "ListBuckets", 501, "NotImplemented"),
        ("route53", "ListHostedZones", 501, "NotImplemented"),
    ],
)
async def test_another_service_is_refused_in_its_own_protocol(
    plane: ControlPlane, service: str, operation: str, status: int, code: str
) -> None:
    found = await Around(plane.app(), KEY).refused(service, operation)
    assert found[:2] == (status, code)
    assert "not offered by Emberbox" in found[2]


@pytest.mark.parametrize("service", [STS, EC2])
async def test_who_is_not_known_is_told_so_in_xml(plane: ControlPlane, service: str) -> None:
    operation = {STS: "GetCallerIdentity", EC2: "DescribeVpcs"}[service]
    codes = {
        STS: ["InvalidClientTokenId", "SignatureDoesNotMatch", "MissingAuthenticationToken"],
        EC2: ["AuthFailure"] * 3,
    }
    keys = (Credential("AKIAUNKNOWN", "x", ""), Credential(KEY.access_key_id, "wrong", ""))
    found = [(await Around(plane.app(), key).refused(service, operation))[1] for key in keys]
    unsigned = around_request(service, operation, {}, KEY)
    headers = tuple(pair for pair in unsigned.headers if pair[0] != "authorization")
    answer = await call(plane.app(), type(unsigned)("POST", "/", "", headers, unsigned.body))
    found.append(read_answer(service, operation, answer)["Error"]["Code"])
    if service == EC2:  # without a signature nothing tells EC2 from others
        found[2] = "AuthFailure" if found[2] == "MissingAuthenticationToken" else found[2]
    assert found == codes[service]


async def test_a_session_that_is_over_is_told_so_in_xml(plane: ControlPlane) -> None:
    made = await Around(plane.app(), KEY).ok(STS, "GetSessionToken", DurationSeconds=900)
    session = Around(plane.app(), KEY).by(made["Credentials"])
    assert (await session.ok(STS, "GetCallerIdentity"))["Account"] == KEY.account_id
    later = datetime.now(UTC) + timedelta(seconds=901)
    app = create_api(plane.handlers(), plane.access.find_credential, REGION, lambda: later, plane.access)
    request = around_request(STS, "GetCallerIdentity", {}, session.key)
    answer = await call(app, request)
    assert read_answer(STS, "GetCallerIdentity", answer)["Error"]["Code"] == "SignatureDoesNotMatch"  # it is too old
    soon = datetime.now(UTC) + timedelta(seconds=200)
    short = plane.access._identities.start_session(KEY.account_id, "user", "admin", "", 100)  # type: ignore[arg-type]
    shown = {"AccessKeyId": short.access_key_id, "SecretAccessKey": short.secret_access_key}
    over = Around(plane.app(), KEY).by({**shown, "SessionToken": short.session_token})
    app = create_api(plane.handlers(), plane.access.find_credential, REGION, lambda: soon, plane.access)
    answer = await call(app, around_request(STS, "GetCallerIdentity", {}, over.key))
    error = read_answer(STS, "GetCallerIdentity", answer)["Error"]
    assert (answer.status, error["Code"]) == (403, "ExpiredToken")


@pytest.mark.parametrize(("service", "operation"), [(STS, "GetCallerIdentity"), (IAM, "ListRoles")])
async def test_what_is_one_for_all_regions_may_be_signed_for_its_own(
    tmp_path: Path, service: str, operation: str
) -> None:
    plane = ControlPlane(tmp_path, KEY, "eu-west-1")
    for region, status in (("us-east-1", 200), ("eu-west-1", 200), ("eu-central-1", 403)):
        answer = await call(plane.app(), around_request(service, operation, {}, KEY, region))
        assert answer.status == status
    await plane.close()


async def test_a_protocol_that_a_service_does_not_speak_is_not_understood(plane: ControlPlane) -> None:
    request = signed("POST", "/", "sts", "{}", x_amz_target="AWSSecurityTokenService.GetCallerIdentity")
    answer = await call(plane.app(), request)
    assert (answer.status, json.loads(answer.body)["__type"]) == (404, "UnknownOperationException")
    answer = await call(plane.app(), signed("GET", "/anything", "sts"))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")


async def test_a_client_that_speaks_cbor_is_told_in_cbor(plane: ControlPlane) -> None:
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    request = signed("POST", path, "monitoring", smithy_protocol="rpc-v2-cbor", content_type="application/cbor")
    answer = await call(plane.app(), request)
    shape = load_operation(CLOUDWATCH, "ListMetrics").output_shape
    response = {"status_code": answer.status, "headers": answer.headers, "body": answer.body}
    error = create_parser("smithy-rpc-v2-cbor").parse(response, shape)["Error"]
    assert (answer.status, error["Code"]) == (404, "UnknownOperationException")
    assert error["Message"].startswith("ListMetrics of monitoring is not offered by Emberbox")
    unsigned = type(request)("POST", path, "", (("host", "x"), ("smithy-protocol", "rpc-v2-cbor")), b"")
    answer = await call(plane.app(), unsigned)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/cbor")


@pytest.mark.parametrize("body", ["", "Version=1", "Action=", "Action=%3Cb%3E", "Action=GetCallerIdentity%00"])
async def test_a_form_that_names_no_operation_is_refused(plane: ControlPlane, body: str) -> None:
    answer = await call(plane.app(), signed("POST", "/", "sts", body, **FORM))
    assert (answer.status, b"<Code>InvalidAction</Code>" in answer.body) == (400, True)


async def test_a_value_that_breaks_the_model_is_refused_in_awss_words(plane: ControlPlane) -> None:
    client = Around(plane.app(), KEY)
    status, code, text = await client.refused(STS, "GetSessionToken", DurationSeconds=1)
    assert (status, code) == (400, "ValidationError")
    assert text.startswith("1 validation error detected: Value '1' at 'durationSeconds' failed to satisfy constraint")
    answer = await call(plane.app(), signed("POST", "/", "sts", "Action=GetSessionToken&DurationSeconds=x", **FORM))
    assert (answer.status, b"<Code>MalformedInput</Code>" in answer.body) == (400, True)


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "unknown"),
    [
        (STS, "AssumeRole", {"RoleArn": f"arn:aws:iam::{KEY.account_id}:role/r", "RoleSessionName": "me"}, "Policy"),
        (IAM, "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": "{}"}, "PermissionsBoundary"),
    ],
)
async def test_a_parameter_that_nothing_acts_on_is_refused_and_not_passed_over(
    plane: ControlPlane, service: str, operation: str, parameters: dict[str, str], unknown: str
) -> None:
    asked = {**parameters, unknown: "arn:aws:iam::aws:policy/AdministratorAccess"}
    status, code, text = await Around(plane.app(), KEY).refused(service, operation, **asked)
    assert status == 400
    assert code in ("ValidationError", "InvalidInput")
    assert text.startswith(f"{unknown} is not offered by Emberbox")


async def test_the_audit_trail_names_the_service_and_what_was_asked(plane: ControlPlane) -> None:
    client = Around(plane.app(), KEY)
    await client.ok(STS, "GetCallerIdentity")
    await client.ok(STS, "GetSessionToken")
    await client.refused(IAM, "GetRole", RoleName="r")
    await client.refused("ssm", "DescribeParameters")
    await plane.access.trail.flush()
    text = "".join(path.read_text() for path in (plane.directory / "audit").iterdir())
    records = [json.loads(line) for line in text.splitlines()]
    found = [(one["eventSource"], one["eventName"], one.get("errorCode"), one["readOnly"]) for one in records]
    assert found == [
        ("sts.amazonaws.com", "GetCallerIdentity", None, True),
        ("sts.amazonaws.com", "GetSessionToken", None, False),
        ("iam.amazonaws.com", "GetRole", "NoSuchEntity", True),
        ("ssm.amazonaws.com", "DescribeParameters", "UnknownOperationException", True),
    ]
    assert records[1]["responseElements"]["Credentials"].keys() == {"AccessKeyId", "Expiration"}


async def test_our_own_fault_is_told_in_xml_without_details(plane: ControlPlane) -> None:
    async def broken(_caller: Any, _parameters: Any) -> dict[str, Any]:
        raise OSError("the secret place")

    app = create_api({STS: {"GetCallerIdentity": broken}}, plane.access.find_credential, REGION)
    status, code, text = await Around(app, KEY).refused(STS, "GetCallerIdentity")
    assert (status, code) == (500, "InternalFailure")
    assert "secret" not in text
