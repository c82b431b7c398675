"""SAM's transform: templates of plain resources pass, resources of SAM's own are refused in its words."""

from __future__ import annotations

import pytest

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.serverless import SERVERLESS, transform
from emberbox.model.stacks.template import parse_template

TEMPLATE = f"""
Transform: {SERVERLESS}
Globals: {{Function: {{Timeout: 3}}}}
Parameters: {{Days: {{Type: Number, Default: 7}}}}
Resources:
  Group: {{Type: AWS::Logs::LogGroup, Properties: {{RetentionInDays: !Ref Days}}}}
"""


def test_plain_resources_stay_as_they_are() -> None:
    template = parse_template(TEMPLATE)
    assert template.transforms == (SERVERLESS,)
    assert template.resources["Group"].properties == {"RetentionInDays": {"Ref": "Days"}}
    document = read_values(TEMPLATE)
    assert transform(document).keys() == {"Parameters", "Resources"}
    assert "Transform" in document
    assert parse_template(TEMPLATE.replace(SERVERLESS, f"[{SERVERLESS}]")).transforms == (SERVERLESS,)


def test_what_has_no_transform_is_not_touched() -> None:
    document = {"Resources": {"A": {"Type": "T"}}}
    assert transform(document) is document


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("Resources: {F: {Type: AWS::Serverless::Function}}", r"Number of errors found: 1. Resource with id \[F\]"),
        (
            "Resources: {F: {Type: AWS::Serverless::Api}, G: {Type: AWS::Serverless::SimpleTable}}",
            "errors found: 2.*AWS::Serverless::SimpleTable is not offered",
        ),
        ("Globals: {Nope: {}}\nResources: {A: {Type: T}}", "'Nope' is not supported. Must be one of"),
        ("Globals: x\nResources: {A: {Type: T}}", "must be a non-empty dictionary"),
        ("Globals: {}", "At least one Resources member"),
    ],
)
def test_what_sam_would_make_is_refused(more: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse_template(f"Transform: {SERVERLESS}\n{more}\n")
