"""Intrinsic functions, conditions, parameters and the order of resources."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.intrinsics import Scope, references
from emberbox.model.stacks.order import needs_of, sort_by_needs, wanted_in_order
from emberbox.model.stacks.parameters import check_rules, choose_values, named_values, resolve_stored
from emberbox.model.stacks.patterns import matches
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.template import parse_template

TEMPLATE = """
Mappings: {Sizes: {small: {Memory: 512}}}
Conditions:
  Holds: !Equals [a, a]
  Fails: !Not [!Condition Holds]
  Both: !And [!Condition Holds, !Condition Fails]
  Any: !Or [!Condition Fails, !Equals ["1", 1]]
  Circle: !Not [!Condition Circle]
Resources:
  Role: {Type: T}
  Bucket: {Type: T, DependsOn: Role}
  Odd: {Type: T, Condition: Fails}
"""


class World:
    """What is there: a role and a bucket, and one export."""

    def ref(self, logical_id: str) -> Any:
        return f"ref-of-{logical_id}"

    def attribute(self, logical_id: str, name: str) -> Any:
        return f"{name}-of-{logical_id}"

    def imported(self, name: str) -> str:
        return f"imported-{name}"


def scope(text: str = TEMPLATE, **names: Any) -> Scope:
    return Scope(parse_template(text), {"AWS::Region": "us-east-1", "P": "p", "List": ["x", "y"], **names}, World())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("!Ref P", "p"),
        ("!Ref List", ["x", "y"]),
        ("!Ref Role", "ref-of-Role"),
        ("!GetAtt Role.Arn", "Arn-of-Role"),
        ("!GetAtt [Role, !Ref P]", "p-of-Role"),
        ("!Sub 'a-${P}-${Role.Arn}-${Role}-${!Literal}-${ P }'", "a-p-Arn-of-Role-ref-of-Role-${Literal}-p"),
        ("!Sub ['${P}${Own}', {Own: !Ref Role}]", "pref-of-Role"),
        ("!Join ['-', [a, !Ref P, 5, true]]", "a-p-5-true"),
        ("!Join [',', !Ref List]", "x,y"),
        ("!Split ['|', 'a|b']", ["a", "b"]),
        ("!Select [1, !Split ['|', 'a|b']]", "b"),
        ("!FindInMap [Sizes, small, Memory]", 512),
        ("!FindInMap [Sizes, huge, Memory, {DefaultValue: 1}]", 1),
        ("!ImportValue x", "imported-x"),
        ("!Base64 hello", "aGVsbG8="),
        ("!GetAZs ''", ["us-east-1a"]),
        ("!If [Holds, 1, 2]", 1),
        ("!If [Fails, 1, 2]", 2),
        ("{a: !If [Fails, 1, !Ref 'AWS::NoValue'], b: [!Ref 'AWS::NoValue', 2]}", {"b": [2]}),
        ("{Id: '1', Condition: {StringEquals: {a: !Ref P}}}", {"Id": "1", "Condition": {"StringEquals": {"a": "p"}}}),
    ],
)  # fmt: skip
def test_functions_are_resolved(text: str, wanted: Any) -> None:
    assert scope().resolve(read_values(text)) == wanted


def test_conditions_are_evaluated() -> None:
    here = scope()
    assert [here.condition(name) for name in ("Holds", "Fails", "Both", "Any")] == [True, False, False, True]
    assert wanted_in_order(here) == ["Role", "Bucket"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!Ref Nobody", "Nobody"),
        ("!GetAtt Nobody.Arn", "undefined resource Nobody"),
        ("!GetAtt {}", "two non-empty"),
        ("!Select [5, [a]]", "nonexistent value at index 5"),
        ("!Select [-1, [a]]", "nonexistent value"),
        ("!Join [a]", "a list of 2 elements"),
        ("!Join ['', [[a]]]", "needs texts"),
        ("!Split ['', a]", "separator"),
        ("!FindInMap [Sizes, small, Disk]", "Sizes::small::Disk"),
        ("!If [Nobody, 1, 2]", "unresolved condition Nobody"),
        ("!If [Circle, 1, 2]", "depends on itself"),
        ("!Cidr [a]", "Fn::Cidr is not offered"),
        ("!Transform {Name: x}", "Fn::Transform is not offered"),
        ("'{{resolve:ssm:x}}'", "dynamic references"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        scope().resolve(read_values(text))


def test_a_small_template_cannot_make_large_texts() -> None:
    """A text that is doubled twenty times, and many that are each just short enough."""
    names = {"P": "x" * 4096}
    with pytest.raises(ValidationError, match="too long"):
        scope(**names).resolve({"Fn::Sub": "${P}" * 1000})
    with pytest.raises(ValidationError, match="too long"):
        scope(**names).resolve({"Fn::Join": ["y" * 4096, ["a"] * 1000]})
    with pytest.raises(ValidationError, match="too long"):
        scope(**names).resolve([{"Fn::Sub": "${P}" * 100}] * 100)


def test_references_are_found_wherever_they_are() -> None:
    value = read_values("{a: [!Ref A, !GetAtt B.Arn], b: !Sub ['${C}-${D.Arn}-${!E}-${F}', {F: !Ref G}]}")
    assert set(references(value)) == {"A", "B", "C", "D", "G"}


def test_resources_come_after_those_that_they_need() -> None:
    text = "Resources: {A: {Type: T, Properties: {X: !Ref B}}, B: {Type: T, DependsOn: C}, C: {Type: T}}"
    here = scope(text)
    assert wanted_in_order(here) == ["C", "B", "A"]
    assert needs_of(here.template, "A") == ("B",)
    with pytest.raises(ValidationError, match=r"Circular dependency between resources: \[A, B\]"):
        sort_by_needs(["A", "B"], {"A": ["B"], "B": ["A"]})
    assert sort_by_needs(["A"], {"A": ["gone"]}) == ["A"]


PARAMETERS = """
Parameters:
  Name: {Type: String, AllowedPattern: "[a-z]{1,5}", Default: abc}
  Size: {Type: Number, MinValue: 1, MaxValue: 10, Default: 5}
  Kind: {Type: String, AllowedValues: [a, b], Default: a, ConstraintDescription: choose well}
  Nets: {Type: CommaDelimitedList, Default: "a, b"}
  Short: {Type: String, MinLength: 1, MaxLength: 2, Default: x}
  Stored: {Type: "AWS::SSM::Parameter::Value<String>", Default: /version}
  Needed: {Type: String}
Resources: {A: {Type: T}}
"""


def choose(given: dict[str, str], kept: tuple[str, ...] = (), earlier: dict[str, str] | None = None) -> dict[str, str]:
    return choose_values(parse_template(PARAMETERS), {"Needed": "n", **given}, frozenset(kept), earlier or {})


def test_parameters_are_given_kept_or_as_the_template_has_them() -> None:
    values = choose({"Size": "7"}, ("Name",), {"Name": "old"})
    assert (values["Name"], values["Size"], values["Nets"]) == ("old", "7", "a, b")
    template = parse_template(PARAMETERS)
    stored = resolve_stored(template, values, {"/version": "21"}.get)
    named = named_values(template, values, stored)
    assert (named["Nets"], named["Stored"], named["Name"]) == (["a", "b"], "21", "old")
    with pytest.raises(ValidationError, match="Unable to fetch parameters"):
        resolve_stored(template, values, lambda _: None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Name": "ABC"}, "must match pattern"),
        ({"Name": "abcdef"}, "must match pattern"),
        ({"Size": "x"}, "must be a number"),
        ({"Size": "11"}, "not greater than 10"),
        ({"Size": "0"}, "not less than 1"),
        ({"Kind": "c"}, "choose well"),
        ({"Short": ""}, "at least 1"),
        ({"Short": "xyz"}, "at most 2"),
        ({"Short": "x" * 5000}, "longer than"),
        ({"Nobody": "1"}, r"\[Nobody\] do not exist in the template"),
    ],
)
def test_parameters_that_break_their_constraints_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        choose(given)


def test_a_parameter_without_a_value_is_missed() -> None:
    with pytest.raises(ValidationError, match=r"\[Needed\] must have values"):
        choose_values(parse_template(PARAMETERS), {}, frozenset(), {})


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "a*a*a*a*a*b", "(.*)(.*)(.*)(.*)x", "((a?){30}a{30})*"])
def test_patterns_that_may_take_for_ever_are_refused_at_once(pattern: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match="too long"):
        matches(pattern, "a" * 4000)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[A-Za-z0-9_-]{1,10}", "hnb659fds"),
        (r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})/(\d{1,2})", "10.0.0.0/16"),
        ("^[a-z][-a-z0-9]*$", "a-name"),
        ("(dev|test|prod)", "test"),
        (r"arn:aws:iam::\d{12}:role/.+", "arn:aws:iam::123456789012:role/x"),
        ("[]a]+", "]a"),
    ],
)
def test_patterns_of_everyday_templates_match(pattern: str, text: str) -> None:
    assert matches(pattern, text)
    assert not matches(pattern, text + "\n!")


def test_rules_are_held() -> None:
    text = """
Parameters: {P: {Type: String}}
Rules:
  Version:
    Assertions:
      - Assert: !Not [!Contains [["1", "2"], !Ref P]]
        AssertDescription: too old
Resources: {A: {Type: T}}
"""
    check_rules(scope(text, P="3"))
    with pytest.raises(ValidationError, match="too old"):
        check_rules(scope(text, P="2"))


def test_pyyaml_has_its_quick_parser_here() -> None:
    """Without it a template of a megabyte takes seconds."""
    assert hasattr(yaml, "CSafeLoader")
