"""Policy documents: what is read, what is refused, and what they decide."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.model.errors import ValidationError
from emberbox.model.iam.patterns import Pattern
from emberbox.model.iam.policies import CHARACTERS_MAX, FULL_ACCESS, Decision, decide, parse_policy

RUN = "lambda:RunMicrovm"
WEB = "arn:aws:lambda:us-east-1:111111111111:microvm-image:web"
NOTHING: dict[str, tuple[str, ...]] = {}


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    """Return a statement about everything, with some elements replaced; None takes one out."""
    whole = {"Effect": effect, "Action": "*", "Resource": "*", **elements}
    return {name: value for name, value in whole.items() if value is not None}


def document(*statements: Any, **elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **elements})


def decision_of(*statements: Any, action: str = RUN, resource: str = WEB, **context: Any) -> Decision:
    return decide([parse_policy(document(*statements))], action, resource, context.get("context", NOTHING))


def holds(operator: str, key: str, wanted: Any, *values: str) -> bool:
    """Say whether a request with these values of a key fulfils a condition."""
    condition = {operator: {key: wanted}}
    context = {key.lower(): values} if values else NOTHING
    return decision_of(statement(Condition=condition), context=context) is Decision.ALLOW


def test_nothing_is_allowed_without_a_policy() -> None:
    assert decide([], RUN, WEB, NOTHING) is Decision.IMPLICIT_DENY


def test_full_access_allows_everything() -> None:
    for action, resource in ((RUN, WEB), ("emberbox:PutPolicy", "*"), ("iam:PassRole", "arn:aws:iam::1:role/x")):
        assert decide([FULL_ACCESS], action, resource, NOTHING) is Decision.ALLOW


def test_an_explicit_deny_comes_first_wherever_it_stands() -> None:
    deny = statement("Deny", Action=RUN)
    assert decision_of(statement(), deny) is decision_of(deny, statement()) is Decision.EXPLICIT_DENY
    policies = [FULL_ACCESS, parse_policy(document(deny))]
    assert decide(policies, RUN, WEB, NOTHING) is Decision.EXPLICIT_DENY
    assert decide(policies, "lambda:GetMicrovm", WEB, NOTHING) is Decision.ALLOW


ACTIONS = [
    ("lambda:RunMicrovm", True),
    ("LAMBDA:runmicrovm", True),
    ("lambda:*", True),
    ("lambda:Run*", True),
    ("lambda:R?nMicrovm", True),
    ("*", True),
    ("lambda:Run", False),
    ("lambda:RunMicrovms", False),
    ("logs:*", False),
    ("lambda:?unMicrovmm", False),
]


@pytest.mark.parametrize(("pattern", "matches"), ACTIONS)
def test_actions_match_by_wildcards_and_without_case(pattern: str, matches: bool) -> None:
    wanted = Decision.ALLOW if matches else Decision.IMPLICIT_DENY
    assert decision_of(statement(Action=[pattern])) is wanted
    other = Decision.IMPLICIT_DENY if matches else Decision.ALLOW
    assert decision_of(statement(Action=None, NotAction=pattern)) is other


RESOURCES = [
    ("*", True),
    (WEB, True),
    (WEB.replace("web", "*"), True),
    (WEB.replace("web", "w?b"), True),
    (WEB.replace("us-east-1", "*"), True),
    (WEB.replace("web", "WEB"), False),
    (WEB.replace("web", "we"), False),
    (WEB.replace("111111111111", "222222222222"), False),
]


@pytest.mark.parametrize(("pattern", "matches"), RESOURCES)
def test_resources_match_by_wildcards_and_with_case(pattern: str, matches: bool) -> None:
    wanted = Decision.ALLOW if matches else Decision.IMPLICIT_DENY
    assert decision_of(statement(Resource=["arn:aws:s3:::x", pattern])) is wanted
    other = Decision.IMPLICIT_DENY if matches else Decision.ALLOW
    assert decision_of(statement(Resource=None, NotResource=pattern)) is other


def test_a_variable_is_filled_in_and_is_never_a_wildcard() -> None:
    own = statement(Resource="arn:aws:lambda:us-east-1:111111111111:microvm-image:${aws:username}-*")
    for user, image, wanted in (("ann", "ann-1", True), ("ann", "bob-1", False), ("*", "bob-1", False)):
        decision = decision_of(own, resource=WEB.replace("web", image), context={"aws:username": (user,)})
        assert (decision is Decision.ALLOW) is wanted
    assert decision_of(own, resource=WEB.replace("web", "-1")) is Decision.IMPLICIT_DENY


def test_escaped_characters_are_themselves() -> None:
    assert holds("StringLike", "aws:username", "a${*}${?}${$}", "a*?$")
    assert not holds("StringLike", "aws:username", "a${*}", "ab")


KEY = "aws:ResourceTag/team"
CONDITIONS = [
    ("StringEquals", "red", ["red"], True),
    ("StringEquals", ["blue", "red"], ["red"], True),
    ("StringEquals", "red", ["Red"], False),
    ("StringEquals", "r*", ["red"], False),
    ("StringNotEquals", "red", ["blue"], True),
    ("StringNotEquals", ["red", "blue"], ["blue"], False),
    ("StringEqualsIgnoreCase", "RED", ["red"], True),
    ("StringNotEqualsIgnoreCase", "RED", ["red"], False),
    ("StringLike", "r?d*", ["redder"], True),
    ("StringLike", "r?d", ["redder"], False),
    ("StringNotLike", "r*", ["red"], False),
    ("ArnLike", "arn:aws:lambda:*:*:microvm-image:w*", [WEB], True),
    ("ArnLike", "arn:aws:*:microvm-image:web:x:y", [WEB], False),
    ("ArnEquals", WEB, [WEB], True),
    ("ArnEquals", WEB, ["web"], False),
    ("ArnNotEquals", WEB, [WEB], False),
    ("ArnNotLike", "arn:aws:lambda:*:*:microvm-image:x*", [WEB], True),
    ("IpAddress", "192.0.2.0/24", ["192.0.2.7"], True),
    ("IpAddress", ["10.0.0.0/8", "192.0.2.7"], ["192.0.2.7"], True),
    ("IpAddress", "192.0.2.0/24", ["192.0.3.7"], False),
    ("IpAddress", "2001:db8::/32", ["2001:db8::1"], True),
    ("IpAddress", "0.0.0.0/0", ["2001:db8::1"], False),
    ("IpAddress", "192.0.2.0/24", ["not an address"], False),
    ("NotIpAddress", "192.0.2.0/24", ["192.0.3.7"], True),
    ("NotIpAddress", "192.0.2.0/24", ["192.0.2.7"], False),
    ("Bool", "true", ["True"], True),
    ("Bool", True, ["false"], False),
    ("NumericEquals", 3, ["3.0"], True),
    ("NumericNotEquals", "3", ["4"], True),
    ("NumericLessThan", "3", ["2.5"], True),
    ("NumericLessThan", "3", ["3"], False),
    ("NumericLessThanEquals", "3", ["3"], True),
    ("NumericGreaterThan", "3", ["3"], False),
    ("NumericGreaterThanEquals", "3", ["3"], True),
    ("NumericEquals", "3", ["three"], False),
    ("DateLessThan", "2026-11-25T00:00:00Z", ["2026-11-24T23:59:59Z"], True),
    ("DateGreaterThan", "2026-11-25T00:00:00Z", ["2026-11-24T23:59:59Z"], False),
    ("DateGreaterThanEquals", "1790000000", ["2026-09-21T14:13:20+00:00"], True),
    ("DateEquals", "2026-11-25", ["2026-11-25T00:00:00Z"], True),
    ("DateNotEquals", "2026-11-25", ["2026-11-25T00:00:00Z"], False),
    ("DateLessThanEquals", "2026-11-25T01:00:00+01:00", ["2026-11-25T00:00:00Z"], True),
    ("Null", "true", [], True),
    ("Null", "true", ["x"], False),
    ("Null", "false", ["x"], True),
    ("Null", False, [], False),
    ("ForAnyValue:StringEquals", ["a", "b"], ["c", "b"], True),
    ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
    ("ForAnyValue:StringNotEquals", ["a"], ["a", "c"], True),
    ("ForAnyValue:StringNotEquals", ["a"], ["a"], False),
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
    ("ForAllValues:StringLike", ["a*"], ["ab", "ac"], True),
    ("ForAllValues:StringNotEquals", ["a"], ["b", "a"], False),
]


@pytest.mark.parametrize(("operator", "wanted", "values", "result"), CONDITIONS)
def test_an_operator_compares_as_iam_does(operator: str, wanted: Any, values: list[str], result: bool) -> None:
    assert holds(operator, KEY, wanted, *values) is result


ABSENT = [
    ("StringEquals", "x", False),
    ("StringNotEquals", "x", True),
    ("StringLike", "*", False),
    ("StringNotLike", "*", True),
    ("ArnNotLike", "arn:aws:a:b:c:d", True),
    ("IpAddress", "0.0.0.0/0", False),
    ("NotIpAddress", "0.0.0.0/0", True),
    ("Bool", "false", False),
    ("NumericLessThan", "1", False),
    ("NumericNotEquals", "1", True),
    ("DateLessThan", "2026-01-01", False),
    ("StringEqualsIfExists", "x", True),
    ("IpAddressIfExists", "10.0.0.0/8", True),
    ("BoolIfExists", "true", True),
    ("ForAllValues:StringEquals", "x", True),
    ("ForAnyValue:StringEquals", "x", False),
    ("ForAnyValue:StringNotEquals", "x", False),
    ("ForAnyValue:StringEqualsIfExists", "x", True),
]


@pytest.mark.parametrize(("operator", "wanted", "result"), ABSENT)
def test_an_absent_key_fails_all_but_the_negated_and_the_lenient(operator: str, wanted: str, result: bool) -> None:
    assert holds(operator, KEY, wanted) is result


def test_if_exists_still_compares_what_is_there() -> None:
    assert holds("StringEqualsIfExists", KEY, "red", "red")
    assert not holds("StringEqualsIfExists", KEY, "red", "blue")


def test_keys_are_compared_without_case_and_all_conditions_must_hold() -> None:
    condition = {"StringEquals": {"AWS:ResourceTag/Team": "red", "aws:username": "ann"}, "Bool": {"a:b": "true"}}
    context = {"aws:resourcetag/team": ("red",), "aws:username": ("ann",), "a:b": ("true",)}
    assert decision_of(statement(Condition=condition), context=context) is Decision.ALLOW
    for key in context:
        fewer = {name: value for name, value in context.items() if name != key}
        assert decision_of(statement(Condition=condition), context=fewer) is Decision.IMPLICIT_DENY


MALFORMED: list[tuple[str, str]] = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[]", "the document must be an object"),
    ('{"Statement": []}', "Version must be 2012-10-17"),
    (document(Version="2020-01-01"), "Version must be 2012-10-17"),
    (document(), "at least one statement"),
    ('{"Version": "2012-10-17"}', "at least one statement"),
    (document("x"), r"Statement\[0\] must be an object"),
    (document(statement(), statement(Principal="*")), r"Statement\[1\] has the unknown element Principal"),
    (document(statement(), Extra=1), "the document has the unknown element Extra"),
    (document(statement("allow")), r"Statement\[0\].Effect must be Allow or Deny"),
    (document(statement(Action=None)), "either Action or NotAction"),
    (document(statement(NotAction="*")), "either Action or NotAction"),
    (document(statement(Resource=None)), "either Resource or NotResource"),
    (document(statement(Action=[])), r"Statement\[0\].Action must not be empty"),
    (document(statement(Action="RunMicrovm")), r'Statement\[0\].Action: "RunMicrovm"'),
    (document(statement(Action="lam*:Run")), r"Statement\[0\].Action"),
    (document(statement(Action=[1])), r"Statement\[0\].Action: 1"),
    (document(statement(Resource="web")), r'Statement\[0\].Resource: "web"'),
    (document(statement(Resource="arn:aws:lambda:*")), "ARN of six parts"),
    (document(statement(Resource="arn:aws:lambda:::${aws:x")), "six parts|variable"),
    (document(statement(Resource="arn:aws:lambda:r:a:${user}")), r"\$\{user\} is no policy variable"),
    (document(statement(Sid="a b")), r"Statement\[0\].Sid"),
    (document(statement(Sid="a"), statement(Sid="a")), "Sid a is given to more than one"),
    (document(statement(Condition={})), r"Statement\[0\].Condition must be an object that is not empty"),
    (document(statement(Condition={"StringEquals": "x"})), r"Condition.StringEquals must be an object"),
    (document(statement(Condition={"StringIs": {"a:b": "x"}})), "StringIs is no condition operator"),
    (document(statement(Condition={"ForAnyValue:Null": {"a:b": "true"}})), "is no condition operator"),
    (document(statement(Condition={"StringEquals": {"a:b": []}})), "must have a value"),
    (document(statement(Condition={"StringEquals": {"a:b": None}})), "a string, a number or a boolean"),
    (document(statement(Condition={"IpAddress": {"aws:SourceIp": "300.1.1.1"}})), r"IpAddress.aws:SourceIp: '300"),
    (document(statement(Condition={"Bool": {"a:b": "maybe"}})), "neither true nor false"),
    (document(statement(Condition={"Null": {"a:b": "x"}})), "neither true nor false"),
    (document(statement(Condition={"NumericEquals": {"a:b": "NaN"}})), "is no number"),
    (document(statement(Condition={"DateEquals": {"a:b": "soon"}})), "is no date"),
    (document(statement(Condition={"ArnLike": {"a:b": "web"}})), "is no ARN"),
    ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "Version is given twice"),
    ("[" * 100_000, "characters"),
    ("[" * 5000, "nested too deeply|not JSON"),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_a_malformed_document_is_refused_by_its_place(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_policy(text)


def test_a_document_has_a_size_and_white_space_does_not_count() -> None:
    padding = CHARACTERS_MAX - len(document(statement(), Id="").replace(" ", ""))
    parse_policy(document(statement(), Id="x" * padding) + " " * 10_000)
    with pytest.raises(ValidationError, match="at most 6144"):
        parse_policy(document(statement(), Id="x" * (padding + 1)))


def test_no_pattern_is_slow() -> None:
    pattern = Pattern("*a" * 1000 + "b")  # a matcher that backtracks would never come to an end
    assert not pattern.matches("a" * 5000, NOTHING)


@cache
def _glob(pattern: str, text: str) -> bool:
    """The definition of wildcards, as short as can be."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _glob(pattern[1:], text) or (bool(text) and _glob(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and _glob(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=8), st.text("ab*?.\n", max_size=10))
def test_wildcards_mean_what_their_definition_says(pattern: str, text: str) -> None:
    assert Pattern(pattern).matches(text, NOTHING) is _glob(pattern, text)


_EFFECTS = st.sampled_from(["Allow", "Deny"])
_PATTERNS = st.text("ab*?", min_size=1, max_size=3)


@given(st.lists(st.tuples(_EFFECTS, _PATTERNS, _PATTERNS), max_size=5), st.text("ab", min_size=1, max_size=3))
def test_a_decision_follows_from_the_statements_that_apply(rules: list[tuple[str, str, str]], name: str) -> None:
    arn = "arn:aws:lambda:r:a:"
    policies = [
        parse_policy(document(statement(effect, Action=f"lambda:{action}", Resource=arn + resource)))
        for effect, action, resource in rules
    ]
    effects = {effect for effect, action, resource in rules if _glob(action, name) and _glob(resource, name)}
    wanted = (
        Decision.EXPLICIT_DENY
        if "Deny" in effects
        else Decision.ALLOW
        if "Allow" in effects
        else Decision.IMPLICIT_DENY
    )
    assert decide(policies, f"lambda:{name}", arn + name, NOTHING) is wanted


_NAMES = st.sampled_from(["Version", "Statement", "Effect", "Action", "Resource", "Condition", "StringEquals", "Sid"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_whatever_is_sent_as_a_condition_is_read_or_refused(value: Any) -> None:
    text = document(statement(Condition=value))
    with contextlib.suppress(ValidationError):
        assert decide([parse_policy(text)], RUN, WEB, NOTHING) is not Decision.EXPLICIT_DENY


@given(_VALUES)
def test_whatever_is_sent_as_a_document_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="The policy document is malformed: "):
        parse_policy(json.dumps(value))
