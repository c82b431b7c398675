"""The OpenAPI document of Emberbox's own service."""

import json

from openapi_spec_validator import OpenAPIV31SpecValidator

from emberbox.spec.models import EMBERBOX, load_operation, operation_names
from emberbox.spec.openapi import render_openapi


def test_the_document_is_valid_openapi() -> None:
    document = json.loads(json.dumps(render_openapi()))

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_operation_is_at_its_path_and_method() -> None:
    paths = render_openapi()["paths"]

    for name in operation_names(EMBERBOX):
        http = load_operation(EMBERBOX, name).http
        assert paths[http["requestUri"].partition("?")[0]][http["method"].lower()]["operationId"] == name


def test_required_members_and_refusals_are_described() -> None:
    run = render_openapi("lambda-microvms")["paths"]["/2025-09-09/microvms"]["post"]

    assert run["requestBody"]["content"]["application/json"]["schema"]["required"] == ["imageIdentifier"]
    assert "402" in run["responses"]
