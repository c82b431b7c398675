"""Answers that our serialiser writes, read by botocore's parser."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum
from typing import Any

import pytest
from botocore.model import ServiceModel, Shape
from botocore.parsers import create_parser

from emberbox.edges.aws.errors import SerializationError, UnknownOperationError
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.serialise import serialise_error, serialise_result, serialise_wire_error
from emberbox.model.errors import (
    AccessDeniedError,
    ConflictError,
    InternalError,
    NotFoundError,
    QuotaExceededError,
    ServiceError,
    ThrottlingError,
    ValidationError,
)
from emberbox.spec.models import error_status, load_operation
from support.wire import every_operation, example

ID = "5f0b7c3e-0000-4000-8000-000000000000"


def match_of(name: str, service: str = "lambda-microvms") -> Match:
    return Match(service, name, load_operation(service, name), {})


def botocore_reads(match: Match, answer: Answer, shape: Shape | None) -> dict[str, Any]:
    parser = create_parser(match.operation.service_model.metadata["protocol"])
    headers = {name.lower(): value for name, value in answer.headers.items()}
    response = {"status_code": answer.status, "headers": headers, "body": answer.body}
    parsed: dict[str, Any] = parser.parse(response, shape)
    return parsed


def streams(service: str, name: str) -> bool:
    shape = load_operation(service, name).output_shape
    return shape is not None and shape.event_stream_name is not None


@pytest.mark.parametrize(("service", "name"), [one for one in every_operation() if not streams(*one)])
def test_what_we_write_is_what_botocore_reads(service: str, name: str) -> None:
    match = match_of(name, service)
    shape = match.operation.output_shape
    result = example(shape, random.Random(name)) if shape else {}
    answer = serialise_result(match, result, ID)
    parsed = botocore_reads(match, answer, shape)
    metadata = parsed.pop("ResponseMetadata")
    assert parsed == result
    assert metadata["RequestId"] == ID
    assert answer.status == match.operation.http.get("responseCode", 200)


@pytest.mark.parametrize(("service", "name"), every_operation())
def test_every_declared_error_is_read_back(service: str, name: str) -> None:
    match = match_of(name, service)
    for shape in match.operation.error_shapes:
        error = type("Declared", (ServiceError,), {"code": shape.name})("what happened")
        answer = serialise_error(match, error, ID)
        parsed = botocore_reads(match, answer, match.operation.output_shape)
        assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (shape.name, "what happened")
        assert parsed["ResponseMetadata"]["RequestId"] == ID
        assert parsed["ResponseMetadata"]["HTTPStatusCode"] == error_status(service, shape.name)
        members = botocore_reads(match, answer, shape)
        assert members.get("message", members.get("Message", "what happened")) == "what happened"


@pytest.mark.parametrize(("service", "name"), every_operation())
@pytest.mark.parametrize(
    "error",
    [
        ValidationError("x"),
        AccessDeniedError("x"),
        NotFoundError("x"),
        ConflictError("x"),
        QuotaExceededError("x"),
        ThrottlingError("x"),
        InternalError("x"),
    ],
    ids=lambda error: error.code,
)
def test_every_error_class_can_be_sent_by_every_operation(service: str, name: str, error: ServiceError) -> None:
    answer = serialise_error(match_of(name, service), error, ID)
    body = json.loads(answer.body)
    assert 400 <= answer.status <= 500
    assert "x" in {body.get("message"), body.get("Message")}


@pytest.mark.parametrize("name", [name for service, name in every_operation() if service == "lambda-microvms"])
def test_unset_members_of_microvms_are_explicit_nulls(name: str) -> None:
    match = match_of(name)
    shape = match.operation.output_shape
    answer = serialise_result(match, {}, ID)
    if answer.status == 204:
        assert answer.body == b""
    else:
        assert json.loads(answer.body) == dict.fromkeys(shape.members)


def test_nulls_are_sent_at_every_level_but_not_inside_a_union() -> None:
    result = {"items": [{"microvmId": "m"}]}
    body = json.loads(serialise_result(match_of("ListMicrovms"), result, ID).body)
    assert body["items"][0] == {
        "microvmId": "m",
        "state": None,
        "imageArn": None,
        "imageVersion": None,
        "startedAt": None,
    }
    assert body["nextToken"] is None
    version = {"logging": {"disabled": {}}, "codeArtifact": {"uri": "s3://b/k"}, "hooks": {"port": 1}}
    body = json.loads(serialise_result(match_of("GetMicrovmImageVersion"), version, ID).body)
    assert body["logging"] == {"disabled": {}}
    assert body["hooks"]["port"] == 1
    assert set(body["hooks"].values()) == {1, None}


def test_core_leaves_unset_members_out() -> None:
    answer = serialise_result(match_of("ListNetworkConnectors", "lambda-core"), {"NetworkConnectors": []}, ID)
    assert json.loads(answer.body) == {"NetworkConnectors": []}


def test_success_codes_come_from_the_model() -> None:
    assert serialise_result(match_of("CreateMicrovmImage"), {}, ID).status == 201
    assert serialise_result(match_of("CreateNetworkConnector", "lambda-core"), {}, ID).status == 202
    tagged = serialise_result(match_of("TagResource"), {}, ID)
    assert (tagged.status, tagged.body) == (204, b"")
    suspended = serialise_result(match_of("SuspendMicrovm"), {}, ID)
    assert (suspended.status, suspended.body) == (200, b"{}")


def test_timestamps_are_epoch_seconds_in_microvms_and_iso_8601_in_core() -> None:
    moment = datetime(2026, 7, 25, 19, 20, 0, 500_400, timezone(timedelta(hours=2)))
    body = json.loads(serialise_result(match_of("GetMicrovm"), {"startedAt": moment}, ID).body)
    assert body["startedAt"] == 1785000000.5
    core = serialise_result(match_of("GetNetworkConnector", "lambda-core"), {"LastModified": moment}, ID)
    assert json.loads(core.body) == {"LastModified": "2026-07-25T17:20:00.500Z"}


def test_string_enums_are_sent_as_their_values() -> None:
    class New(StrEnum):
        RUNNING = "RUNNING"

    old = Enum("Old", {"ON": "RUNNING"}, type=str)
    for state in (New.RUNNING, old("RUNNING")):
        body = serialise_result(match_of("GetMicrovm"), {"state": state}, ID).body
        assert json.loads(body)["state"] == "RUNNING"


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("GetMicrovm", {"microvmID": "m"}, "GetMicrovmResponse has no member microvmID"),
        ("GetMicrovm", {"microvmId": 5}, "must be str, not int"),
        ("GetMicrovm", {"maximumDurationInSeconds": True}, "must be int, not bool"),
        ("GetMicrovm", {"startedAt": 5}, "must be datetime, not int"),
        ("GetMicrovm", {"startedAt": datetime(2026, 1, 1)}, "without a time zone"),
        ("GetMicrovm", {"idlePolicy": "x"}, "must be a mapping, not str"),
        ("ListMicrovms", {"items": "x"}, "must be list, not str"),
        ("TagResource", {"x": 1}, "TagResource has no output"),
    ],
)
def test_a_result_that_does_not_fit_the_model_is_a_bug(name: str, result: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        serialise_result(match_of(name), result, ID)


def test_not_found_names_its_members_as_nulls() -> None:
    answer = serialise_error(match_of("GetMicrovm"), NotFoundError("MicroVM not found: m"), ID)
    assert answer.status == 404
    assert answer.headers["x-amzn-ErrorType"] == "ResourceNotFoundException"
    assert answer.headers["x-amzn-RequestId"] == ID
    expected = {"message": "MicroVM not found: m", "resourceId": None, "resourceType": None}
    assert json.loads(answer.body) == expected


def test_error_members_are_sent() -> None:
    error = QuotaExceededError("full", quotaCode="L-1")
    body = json.loads(serialise_error(match_of("RunMicrovm"), error, ID).body)
    nulls = dict.fromkeys(["resourceId", "resourceType", "serviceCode"])
    assert body == {"message": "full", "quotaCode": "L-1", **nulls}


def test_throttling_and_internal_errors_say_when_to_come_back() -> None:
    throttled = serialise_error(match_of("RunMicrovm"), ThrottlingError("slow", retryAfterSeconds=7), ID)
    assert (throttled.status, throttled.headers["Retry-After"]) == (429, "7")
    assert "retryAfterSeconds" not in json.loads(throttled.body)
    broken = serialise_error(match_of("RunMicrovm"), InternalError("broken"), ID)
    assert (broken.status, broken.headers["Retry-After"]) == (500, "1")
    core = serialise_error(match_of("GetNetworkConnector", "lambda-core"), ThrottlingError("slow"), ID)
    assert core.headers["Retry-After"] == "1"
    assert core.headers["x-amzn-ErrorType"] == "TooManyRequestsException"


def test_the_404_of_core_has_a_capital_message() -> None:
    answer = serialise_error(match_of("GetNetworkConnector", "lambda-core"), NotFoundError("gone"), ID)
    assert answer.body == b'{"Message":"gone"}'


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValidationError("no"), 400, "InvalidParameterValueException"),
        (NotFoundError("no"), 404, "ResourceNotFoundException"),
        (ConflictError("no"), 409, "ResourceConflictException"),
        (ThrottlingError("no"), 429, "TooManyRequestsException"),
        (InternalError("no"), 500, "ServiceException"),
    ],
)
def test_errors_of_core_have_no_type_and_their_code_in_a_header(error: ServiceError, status: int, code: str) -> None:
    match = match_of("UpdateNetworkConnector", "lambda-core")
    answer = serialise_error(match, error, ID)
    assert answer.body in (b'{"message":"no"}', b'{"Message":"no"}')
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (status, code)
    parsed = botocore_reads(match, answer, match.operation.output_shape)
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (code, "no")


def test_a_code_without_a_model_is_not_sent() -> None:
    error = type("Odd", (ServiceError,), {"code": "OddException"})("x")
    with pytest.raises(LookupError, match="OddException"):
        serialise_error(match_of("GetMicrovm"), error, ID)


def test_errors_of_json_1_1_carry_their_type_in_the_body() -> None:
    answer = serialise_error(match_of("CreateLogGroup", "logs"), NotFoundError("gone"), ID)
    assert json.loads(answer.body) == {"__type": "ResourceNotFoundException", "message": "gone"}
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    wire = serialise_wire_error(UnknownOperationError(), True, ID)
    assert json.loads(wire.body) == {"__type": "UnknownOperationException", "message": None}


def test_wire_errors_spell_the_text_as_aws_does() -> None:
    answer = serialise_wire_error(SerializationError("Expected null"), False, ID)
    assert (answer.status, answer.body) == (400, b'{"Message":"Expected null"}')
    unknown = serialise_wire_error(UnknownOperationError(), False, ID)
    assert (unknown.status, unknown.body) == (404, b'{"message":null}')
    assert unknown.headers["x-amzn-ErrorType"] == "UnknownOperationException"


def test_members_with_a_location_leave_the_body() -> None:
    members = {
        "Status": {"shape": "Number", "location": "statusCode"},
        "Extra": {"shape": "Texts", "location": "headers", "locationName": "x-extra-"},
        "Changed": {"shape": "Moment", "location": "header", "locationName": "Last-Modified"},
        "Count": {"shape": "Number", "location": "header", "locationName": "x-count"},
        "Ratio": {"shape": "Ratio"},
    }
    shapes = {
        "Out": {"type": "structure", "members": members},
        "Number": {"type": "integer"},
        "Ratio": {"type": "double"},
        "Text": {"type": "string"},
        "Texts": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Text"}},
        "Moment": {"type": "timestamp"},
    }
    operation = {"name": "Go", "http": {"method": "GET", "requestUri": "/"}, "output": {"shape": "Out"}}
    description = {"metadata": {"protocol": "rest-json"}, "operations": {"Go": operation}, "shapes": shapes}
    match = Match("lambda-core", "Go", ServiceModel(description).operation_model("Go"), {})
    moment = datetime(2026, 7, 25, 17, 20, tzinfo=UTC)
    result = {"Status": 207, "Extra": {"a": "b"}, "Changed": moment, "Count": 3, "Ratio": -math.inf}
    answer = serialise_result(match, result, ID)
    assert (answer.status, answer.body) == (207, b'{"Ratio":"-Infinity"}')
    assert answer.headers["Last-Modified"] == "Sat, 25 Jul 2026 17:20:00 GMT"
    parsed = botocore_reads(match, answer, match.operation.output_shape)
    assert (parsed["Status"], parsed["Extra"], parsed["Count"]) == (207, {"a": "b"}, 3)
