"""Templates: what is read, and what is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.template import parse_template

YAML = """
AWSTemplateFormatVersion: 2010-09-09
Description: words
Parameters:
  Name: {Type: String, Default: 7, NoEcho: true}
Conditions:
  Named: !Not [!Equals [!Ref Name, ""]]
Resources:
  Role:
    Type: AWS::IAM::Role
    DependsOn: Group
    DeletionPolicy: Retain
    Properties:
      RoleName: !Sub "${Name}-${AWS::Region}"
      AssumeRolePolicyDocument: {Version: 2012-10-17, Statement: []}
  Group:
    Type: AWS::Logs::LogGroup
    Condition: Named
Outputs:
  Arn: {Value: !GetAtt Role.Arn, Export: {Name: !Join ["-", [a, b]]}}
"""


def test_yaml_with_short_tags_is_read() -> None:
    template = parse_template(YAML)
    role, group = template.resources["Role"], template.resources["Group"]
    assert template.description == "words"
    assert (role.type, role.depends_on, role.deletion_policy) == ("AWS::IAM::Role", ("Group",), "Retain")
    assert role.properties["RoleName"] == {"Fn::Sub": "${Name}-${AWS::Region}"}
    assert role.properties["AssumeRolePolicyDocument"]["Version"] == "2012-10-17"
    assert group.condition == "Named"
    assert template.conditions["Named"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Name"}, ""]}]}
    assert template.outputs["Arn"].value == {"Fn::GetAtt": ["Role", "Arn"]}
    assert template.outputs["Arn"].export == {"Fn::Join": ["-", ["a", "b"]]}
    assert (template.parameters["Name"].default, template.parameters["Name"].no_echo) == ("7", True)


def test_json_is_read_as_the_same() -> None:
    document = {"Resources": {"A": {"Type": "T::T::T", "Properties": {"X": {"Ref": "AWS::Region"}}}}}
    assert parse_template(json.dumps(document)).resources["A"].properties == {"X": {"Ref": "AWS::Region"}}
    assert read_values("{a: 1, b: !Ref c}") == {"a": 1, "b": {"Ref": "c"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "unsupported structure"),
        ("a: [", "Template format error"),
        ("Resources: {}", "At least one Resources member"),
        ("Resource: {}", r"Invalid template property or properties \[Resource\]"),
        ("Resources: {A: {Type: T}, A: {Type: T}}", "A is given twice"),
        ('{"Resources": {}, "Resources": {}}', "Resources is given twice"),
        ("Resources: {A-b: {Type: T}}", "non alphanumeric"),
        ("Resources: {Fn::Transform: {Name: AWS::Include}}", "/Resources/Fn::Transform.*neither with AWS::Include"),
        ("Resources: {A: {}}", "must contain a Type"),
        ("Resources: {A: {Type: T, Propertys: {}}}", "Propertys is not taken"),
        ("Resources: {A: {Type: T, DependsOn: B}}", r"Unresolved resource dependencies \[B\]"),
        ("Resources: {A: {Type: T, Condition: C}}", "Unresolved condition C"),
        ("Resources: {A: {Type: T, DeletionPolicy: Snapshot}}", "Delete, Retain"),
        ("Transform: AWS::LanguageExtensions\nResources: {A: {Type: T}}", "No transform named AWS::LanguageExt"),
        ("Transform: [5]\nResources: {A: {Type: T}}", "/Transform. must be a text"),
        ("Globals: {}\nResources: {A: {Type: T}}", r"Invalid template property or properties \[Globals\]"),
        ("Resources: {A: &a {Type: T}, B: *a}", "aliases"),
        ("Resources: " + "[" * 200 + "]" * 200, "nested"),
        ('{"Resources": ' + "[" * 200 + "]" * 200 + "}", "nested"),
        ('{"Resources": ' + "[" * 100_000, "Template format error"),
        ("x" * 1_000_001, "may not exceed"),
        ("Parameters: {P: {}}\nResources: {A: {Type: T}}", "must contain a Type"),
        ("Parameters: {P: {Type: Number, MinValue: x}}\nResources: {A: {Type: T}}", "no number"),
        ("Outputs: {O: {}}\nResources: {A: {Type: T}}", "must contain a Value"),
        ("Resources: {" + ", ".join(f"A{n}: {{Type: T}}" for n in range(501)) + "}", "greater than maximum"),
    ],
)
def test_what_is_malformed_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse_template(text)


@pytest.mark.parametrize("text", ["", "null", "!!python/object:os.system {}", "a: !!binary eA==", "? [a]\n: b"])
def test_odd_yaml_ends_in_a_refusal(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_template(text)


def test_scalars_keep_their_kinds() -> None:
    found: Any = read_values("a: 2012-10-17\nb: true\nc: 5\nd: !GetAtt [X, !Ref Y]\n")
    assert found == {"a": "2012-10-17", "b": True, "c": 5, "d": {"Fn::GetAtt": ["X", {"Ref": "Y"}]}}
