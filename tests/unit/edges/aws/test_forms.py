"""Forms of the protocols query and EC2: what botocore writes is read again, whatever is sent."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import SerializationError
from emberbox.edges.aws.forms import PAIRS_MAX, form_pairs, parse_form
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.routing import Match
from emberbox.spec.models import CLOUDWATCH, EC2, IAM, STS, load_operation
from support.around import around_request
from support.wire import KEY, example

DIALECTS = {STS: Dialect.QUERY, IAM: Dialect.QUERY, EC2: Dialect.EC2}
OPERATIONS = [
    (STS, "AssumeRole"),
    (STS, "GetSessionToken"),
    (IAM, "CreateRole"),
    (IAM, "TagRole"),
    (IAM, "UntagRole"),
    (IAM, "ListPolicies"),
    (IAM, "SimulatePrincipalPolicy"),
    (EC2, "DescribeVpcs"),
    (EC2, "DescribeSubnets"),
    (EC2, "DescribeSecurityGroups"),
    (EC2, "RunInstances"),
]


def form(service: str, operation: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    request = HttpRequest("POST", "/", "", (), urlencode(pairs).encode())
    match = Match(service, operation, load_operation(service, operation), {})
    return parse_form(match, DIALECTS.get(service, Dialect.QUERY), request)


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_what_botocore_writes_is_read_again(service: str, operation: str, seed: int) -> None:
    model = load_operation(service, operation)
    parameters = example(model.input_shape, random.Random(seed))
    request = around_request(service, operation, parameters, KEY)
    found = parse_form(Match(service, operation, model, {}), DIALECTS[service], request)
    assert found == parameters


def test_parameters_may_stand_in_the_query_string() -> None:
    request = HttpRequest("GET", "/", "Action=GetRole&RoleName=a%20b", (), b"")
    match = Match(IAM, "GetRole", load_operation(IAM, "GetRole"), {})
    assert parse_form(match, Dialect.QUERY, request) == {"RoleName": "a b"}


def test_lists_are_in_the_order_of_their_numbers_whatever_is_missing() -> None:
    pairs = [("TagKeys.member.10", "c"), ("TagKeys.member.2", "a"), ("TagKeys.member.3", "b"), ("TagKeys.member.x", "")]
    assert form(IAM, "UntagRole", *pairs) == {"TagKeys": ["a", "b", "c"]}


def test_what_the_model_does_not_know_is_left_out() -> None:
    assert form(STS, "GetSessionToken", ("Version", "2011-06-15"), ("Odd.member.1", "x"), (".", "x")) == {}


def test_maps_and_numbers_are_read() -> None:
    assert form(CLOUDWATCH, "PutMetricData", ("MetricData.member.1.Value", "-1.5e3")) == {
        "MetricData": [{"Value": -1500.0}]
    }


@pytest.mark.parametrize(
    ("operation", "name", "value"),
    [
        ("GetSessionToken", "DurationSeconds", "soon"),
        ("GetSessionToken", "DurationSeconds", ""),
        ("GetSessionToken", "DurationSeconds.member.1", "3"),
        ("GetSessionToken", ".".join("abcdefghijklmnopqrstuvwxyz"), "3"),
    ],
)
def test_a_value_of_another_type_is_refused(operation: str, name: str, value: str) -> None:
    with pytest.raises(SerializationError):
        form(STS, operation, (name, value))


def test_a_form_has_only_so_many_names() -> None:
    assert len(form_pairs(HttpRequest("POST", "/", "", (), b"&a" * PAIRS_MAX))) == PAIRS_MAX
    with pytest.raises(SerializationError):
        form_pairs(HttpRequest("POST", "/", "", (), b"&a" * (PAIRS_MAX + 1)))


def test_a_body_that_is_no_text_is_refused() -> None:
    with pytest.raises(SerializationError):
        form_pairs(HttpRequest("POST", "/", "", (), b"\xff=1"))


NAMES = st.lists(
    st.sampled_from(["Tags", "member", "1", "2", "Key", "Value", "RoleName", "", "entry", "MaxSessionDuration"]),
    min_size=1,
    max_size=6,
).map(".".join)


@given(st.lists(st.tuples(NAMES, st.text(max_size=5)), max_size=8))
def test_any_form_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        found = form(IAM, "CreateRole", *pairs)
    except SerializationError:
        return
    assert found.keys() <= load_operation(IAM, "CreateRole").input_shape.members.keys()
