"""docs/compatibility.md is what the conformance tests say, and they speak of every operation that is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.edges.aws.sigv4 import Credential
from emberbox.spec.models import operation_names
from support import compatibility
from support.control_plane import ControlPlane

HERE = {
    "lambda-microvms": set(operation_names("lambda-microvms")),
    "lambda-core": {name for name in operation_names("lambda-core") if "NetworkConnector" in name},
}


def test_the_document_is_not_stale() -> None:
    assert compatibility.DOCUMENT.read_text() == compatibility.render(), "run: python tests/support/compatibility.py"


def test_every_rule_is_a_sentence_about_known_operations() -> None:
    known = {name for service in compatibility.SERVICES for name in operation_names(service)}
    for rule in compatibility.rules():
        assert set(rule.operations) <= known, rule
        assert rule.sentence.endswith("."), rule
    assert {difference.operation for difference in compatibility.differences()} <= {*known, "all"}


@pytest.mark.parametrize("service", HERE)
async def test_every_operation_has_a_handler_and_a_conformance_case(tmp_path: Path, service: str) -> None:
    plane = ControlPlane(tmp_path, Credential("KEY", "secret", "123456789012"), "us-east-1")
    assert set(plane.handlers()[service]) == HERE[service]
    ruled = {name for rule in compatibility.rules() for name in rule.operations}
    assert HERE[service] <= ruled
    assert set(plane.handlers()["logs"]) <= ruled
    await plane.close()
