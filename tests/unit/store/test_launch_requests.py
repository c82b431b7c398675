"""Launch requests in the database: every form that the service takes is read and written back as it was."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from emberbox.model.arns import INGRESS_CONNECTORS, managed_connector_arn
from emberbox.model.launch_requests import MAX_DURATION_S, IdlePolicy, Ingress, LaunchRequest, LogTarget
from emberbox.spec.models import MICROVMS, load_operation
from emberbox.store.launch_requests import read_request, write_request

LEAST: dict[str, Any] = {
    "executionRoleArn": None,
    "idlePolicy": None,
    "logging": None,
    "runHookPayload": None,
    "maximumDurationInSeconds": 28800,
    "ingressNetworkConnectors": [managed_connector_arn("us-east-1", "HTTP_INGRESS")],
    "egressNetworkConnectors": [managed_connector_arn("us-east-1", "INTERNET_EGRESS")],
}
FORMS: dict[str, list[Any]] = {
    "executionRoleArn": ["arn:aws:iam::123456789012:role/path/any"],
    "idlePolicy": [
        {"maxIdleDurationSeconds": idle, "suspendedDurationSeconds": suspended, "autoResumeEnabled": resumes}
        for idle, suspended, resumes in [(60, 0, False), (28800, 3600, True)]
    ],
    "logging": [
        {"disabled": {}},
        {"cloudWatch": {}},
        {"cloudWatch": {"logGroup": "/own"}},
        {"cloudWatch": {"logStream": "one"}},
        {"cloudWatch": {"logGroup": "/own", "logStream": "one"}},
    ],
    "runHookPayload": ["", "{}"],
    "maximumDurationInSeconds": [1],
    "ingressNetworkConnectors": [
        [managed_connector_arn("eu-west-9", name) for name in names]
        for names in (*itertools.permutations(INGRESS_CONNECTORS, 2), ("HTTP_INGRESS",) * 2, INGRESS_CONNECTORS)
    ],
    "egressNetworkConnectors": [
        ["arn:aws:lambda:us-east-1:123456789012:network-connector:nc-1:3", "arn:aws:lambda:x:aws:network-connector:y"]
    ],
}


@pytest.mark.parametrize(
    "stored", [LEAST, *(LEAST | {name: value} for name, values in FORMS.items() for value in values)], ids=str
)
def test_a_request_is_written_as_it_was_read(stored: dict[str, Any]) -> None:
    written = write_request(read_request(stored))
    assert json.dumps(written) == json.dumps(stored)
    assert read_request(written) == read_request(stored)


def test_every_member_of_the_service_model_that_is_kept_has_its_forms_here() -> None:
    shape = load_operation(MICROVMS, "RunMicrovm").input_shape
    assert shape is not None
    elsewhere = {"imageIdentifier", "imageVersion", "clientToken", "kmsKeyIdentifier"}
    assert set(shape.members) == set(LEAST) | elsewhere
    assert set(FORMS) == set(LEAST)
    assert set(shape.members["logging"].members) == {"disabled", "cloudWatch"}
    assert set(shape.members["logging"].members["cloudWatch"].members) == {"logGroup", "logStream"}
    assert set(shape.members["idlePolicy"].members) == set(FORMS["idlePolicy"][0])


def test_a_request_says_what_it_is() -> None:
    stored = LEAST | {name: values[0] for name, values in FORMS.items()}
    stored["logging"] = {"cloudWatch": {"logStream": "one"}}
    stored["ingressNetworkConnectors"] = LEAST["ingressNetworkConnectors"]
    request = read_request(stored)
    assert request == LaunchRequest(
        region="us-east-1",
        ingress=(Ingress.HTTP,),
        egress=tuple(FORMS["egressNetworkConnectors"][0]),
        execution_role="arn:aws:iam::123456789012:role/path/any",
        idle_policy=IdlePolicy(60, 0, resumes_itself=False),
        log_target=LogTarget(stream="one"),
        hook_payload="",
        max_duration_s=1,
    )
    assert not request.resumes_itself


def test_what_an_older_server_did_not_store_is_the_default() -> None:
    assert read_request({}) == LaunchRequest("", (), (), max_duration_s=MAX_DURATION_S)
