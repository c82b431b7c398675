"""Requests that botocore writes, read by our parser; and requests that nobody should write."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.model import ServiceModel, Shape, ShapeResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from emberbox.edges.aws.errors import SerializationError, UnknownOperationError
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.parse import _parse_text, _parse_value, parse_request
from emberbox.edges.aws.routing import Router
from emberbox.spec.models import SERVICES, load_operation
from support.wire import as_http, botocore_request, every_operation, example

ROUTER = Router(SERVICES)
ARN = "arn:aws:lambda:us-east-1:123456789012:microvm-image:web"


def parse(method: str, path: str, body: Any = b"", query: str = "") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HttpRequest(method, path, query, (), raw)
    return parse_request(ROUTER.match(request), request)


@pytest.mark.parametrize(("service", "name"), every_operation())
def test_what_botocore_writes_is_what_we_read(service: str, name: str) -> None:
    operation = load_operation(service, name)
    parameters = example(operation.input_shape, random.Random(name)) if operation.input_shape else {}
    request = as_http(botocore_request(operation, parameters))
    match = ROUTER.match(request)
    assert (match.service, match.name) == (service, name)
    assert parse_request(match, request) == parameters


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."}))
def test_any_path_label_survives(identifier: str) -> None:
    operation = load_operation("lambda-microvms", "SuspendMicrovm")
    request = as_http(botocore_request(operation, {"microvmIdentifier": identifier}))
    match = ROUTER.match(request)
    assert parse_request(match, request) == {"microvmIdentifier": identifier}


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.text(), st.text()), st.text(), st.integers(-(2**31), 2**31 - 1))
def test_any_body_survives(variables: dict[str, str], name: str, port: int) -> None:
    body = {"name": name, "environmentVariables": variables, "hooks": {"port": port}}
    assert parse("POST", "/2025-09-09/microvm-images", body) == body


@pytest.mark.parametrize("spelling", [ARN, ARN.replace(":", "%3A"), ARN.replace(":", "%3a")])
def test_arns_in_the_path_may_be_raw_or_encoded(spelling: str) -> None:
    assert parse("GET", f"/2025-09-09/microvm-images/{spelling}") == {"imageIdentifier": ARN}
    assert parse("GET", f"/2017-03-31/tags/{spelling}") == {"Resource": ARN}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/2025-09-09/microvm"),
        ("PATCH", "/2025-09-09/microvms"),
        ("GET", "/2025-09-09/microvms/"),
        ("GET", "/2025-09-09//microvms"),
        ("GET", "/2025-09-09/microvms/."),
        ("DELETE", "/2025-09-09/microvms/x/suspend/.."),
        ("GET", "/2025-09-09/microvm-images/a/b"),
        ("GET", "/2017-03-31/functions/x"),
        ("GET", "2025-09-09"),
    ],
)
def test_unknown_routes_are_refused(method: str, path: str) -> None:
    with pytest.raises(UnknownOperationError):
        ROUTER.match(HttpRequest(method, path, "", (), b""))


@pytest.mark.parametrize("target", ["Logs_20140328.NoSuch", "CreateLogGroup", "", "DynamoDB_20120810.ListTables"])
def test_unknown_targets_are_refused(target: str) -> None:
    with pytest.raises(UnknownOperationError):
        ROUTER.match(HttpRequest("POST", "/", "", (("x-amz-target", target),), b"{}"))


def test_a_label_with_an_encoded_slash_stays_one_label() -> None:
    assert parse("GET", "/2025-09-09/microvms/a%2Fb") == {"microvmIdentifier": "a/b"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/x")])
def test_targets_are_posted_to_the_root(method: str, path: str) -> None:
    with pytest.raises(UnknownOperationError):
        ROUTER.match(HttpRequest(method, path, "", (("x-amz-target", "Logs_20140328.CreateLogGroup"),), b"{}"))


@pytest.mark.parametrize(
    ("path", "name", "labels"),
    [
        ("/files/a/b%20c", "Greedy", {"Key": "a/b c"}),
        ("/files/latest", "Literal", {}),
        ("/files/a", "Label", {"Name": "a"}),
        ("/other/a", None, {}),
    ],
)
def test_literals_beat_labels_and_greedy_labels_take_the_rest(
    path: str, name: str | None, labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = {"Greedy": "/files/{Key+}", "Label": "/files/{Name}", "Literal": "/files/latest"}
    operations = {name: {"name": name, "http": {"method": "GET", "requestUri": uri}} for name, uri in uris.items()}
    model = ServiceModel({"metadata": {"protocol": "rest-json"}, "operations": operations})
    monkeypatch.setattr("emberbox.edges.aws.routing.load_service", lambda _: model)
    monkeypatch.setattr("emberbox.edges.aws.routing.operation_names", lambda _: tuple(uris))
    monkeypatch.setattr("emberbox.edges.aws.routing.load_operation", lambda _, name: model.operation_model(name))
    request = HttpRequest("GET", path, "", (), b"")
    if name is None:
        with pytest.raises(UnknownOperationError):
            Router(["files"]).match(request)
        return
    match = Router(["files"]).match(request)
    assert (match.name, match.labels) == (name, labels)


def test_unknown_members_and_nulls_are_ignored() -> None:
    body = {"imageIdentifier": ARN, "noSuchMember": {"x": [1]}, "imageVersion": None}
    assert parse("POST", "/2025-09-09/microvms", body) == {"imageIdentifier": ARN}


def test_an_absent_body_is_an_empty_one() -> None:
    assert parse("POST", "/2025-09-09/microvms") == {}


def test_query_lists_are_repeated_parameters_and_plus_is_a_space() -> None:
    query = "tagKeys=a%20b&tagKeys=c+d&X-Amz-Date=1&tagKeys"
    assert parse("DELETE", f"/2017-03-31/tags/{ARN}", query=query)["TagKeys"] == ["a b", "c d", ""]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Could not parse request body into json"),
        (b"\xff{}", "Could not parse request body into json"),
        (b"[" * 100_000, "Could not parse request body into json"),
        (b'{"maximumDurationInSeconds": NaN}', "Could not parse request body into json"),
        (b"[]", "Could not parse request body into json: the body is not an object"),
        (b'"x"', "Could not parse request body into json: the body is not an object"),
        ({"imageIdentifier": 5}, "NUMBER_VALUE can not be converted to a String"),
        ({"imageIdentifier": True}, "TRUE_VALUE can not be converted to a String"),
        ({"imageIdentifier": {}}, "Start of structure or map found where not expected"),
        ({"imageIdentifier": []}, "Start of list found where not expected"),
        ({"maximumDurationInSeconds": "5"}, "STRING_VALUE can not be converted to an Integer"),
        ({"maximumDurationInSeconds": True}, "TRUE_VALUE can not be converted to an Integer"),
        ({"maximumDurationInSeconds": 5.0}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"maximumDurationInSeconds": 2**31}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"idlePolicy": {"autoResumeEnabled": 1}}, "NUMBER_VALUE can not be converted to a Boolean"),
        ({"idlePolicy": "x"}, "Expected null"),
        ({"idlePolicy": []}, "Start of list found where not expected"),
        ({"egressNetworkConnectors": "x"}, "Expected list or null"),
        ({"egressNetworkConnectors": [1]}, "NUMBER_VALUE can not be converted to a String"),
        (b'{"runHookPayload": "\\ud800"}', "unpaired surrogate"),
    ],
)
def test_wrong_types_are_refused(body: Any, message: str) -> None:
    with pytest.raises(SerializationError) as caught:
        parse("POST", "/2025-09-09/microvms", body)
    assert message in str(caught.value.message)
    assert (caught.value.status, caught.value.message_key) == (400, "Message")


def test_a_boolean_for_all_ports_is_refused_as_recorded() -> None:
    with pytest.raises(SerializationError) as caught:
        parse("POST", "/2025-09-09/microvms/m/auth-token", {"allowedPorts": [{"allPorts": True}]})
    assert caught.value.message == "Expected null"


def test_a_map_must_be_an_object() -> None:
    with pytest.raises(SerializationError, match="Expected map or null"):
        parse("POST", "/2025-09-09/microvm-images", {"tags": ["a"]})


@pytest.mark.parametrize("text", ["", "abc", "1.5", "99999999999", "٣", "1" * 5000])
def test_numbers_in_the_query_must_be_integers(text: str) -> None:
    with pytest.raises(SerializationError, match="can not be converted to an Integer"):
        parse("GET", "/2025-09-09/microvms", query=f"maxResults={text}")


@pytest.mark.parametrize(
    "value",
    [1785000000.5, "2026-07-25T17:20:00.500Z", "2026-07-25T19:20:00.500+02:00", "2026-07-25T17:20:00.500"],
)
def test_timestamps_are_read_in_every_form(value: Any) -> None:
    shape = load_operation("lambda-microvms", "GetMicrovm").output_shape.members["startedAt"]
    assert _parse_value(shape, value) == datetime(2026, 7, 25, 17, 20, 0, 500_000, UTC)


@pytest.mark.parametrize("value", [True, "yesterday", 1e300, "Xxx, 99"])
def test_broken_timestamps_are_refused(value: Any) -> None:
    shape = load_operation("lambda-microvms", "GetMicrovm").output_shape.members["startedAt"]
    with pytest.raises(SerializationError, match="Timestamp"):
        _parse_value(shape, value)


def shape_of(**traits: Any) -> Shape:
    return ShapeResolver({"Made": traits}).get_shape_by_name("Made")


@pytest.mark.parametrize(("value", "parsed"), [(1, 1.0), (1.5, 1.5), ("Infinity", math.inf), ("-Infinity", -math.inf)])
def test_numbers_with_a_fraction_are_read(value: Any, parsed: float) -> None:
    assert _parse_value(shape_of(type="double"), value) == parsed


@pytest.mark.parametrize(
    ("type_name", "value"), [("double", True), ("double", "1"), ("float", 10**400), ("long", 2**63)]
)
def test_numbers_that_are_none_are_refused(type_name: str, value: Any) -> None:
    with pytest.raises(SerializationError, match=f"converted to a {type_name.capitalize()}"):
        _parse_value(shape_of(type=type_name), value)


def test_a_long_may_use_64_bits() -> None:
    assert _parse_value(shape_of(type="long"), -(2**63)) == -(2**63)


@pytest.mark.parametrize("value", ["a", "=", "é", "a b="])
def test_bytes_must_be_base64(value: str) -> None:
    with pytest.raises(SerializationError, match="Base64"):
        _parse_value(shape_of(type="blob"), value)


@pytest.mark.parametrize(
    ("text", "parsed"), [("true", True), ("false", False), ("True", None), ("1", None), ("", None)]
)
def test_booleans_in_the_query_are_two_words(text: str, parsed: bool | None) -> None:
    if parsed is not None:
        assert _parse_text(shape_of(type="boolean"), text) is parsed
        return
    with pytest.raises(SerializationError, match="a Boolean"):
        _parse_text(shape_of(type="boolean"), text)


def test_dates_in_headers_may_be_http_dates() -> None:
    parsed = _parse_text(shape_of(type="timestamp"), "Sat, 25 Jul 2026 17:20:00 GMT")
    assert parsed == datetime(2026, 7, 25, 17, 20, tzinfo=UTC)
