"""Trust policies: whom they let assume a role, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emberbox.model.errors import ValidationError
from emberbox.model.iam.access import Credential, PrincipalKind
from emberbox.model.iam.trust import parse_trust

HOME = "111111111111"
ANN = Credential("AKIA", "s", HOME, name="ann")
JOB = Credential("ASIA", "s", HOME, kind=PrincipalKind.ROLE, name="app", session_name="job")


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(principal: Any, effect: str = "Allow", action: Any = "sts:AssumeRole", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": action, **more}


@pytest.mark.parametrize(
    ("principal", "ann", "job"),
    [
        ("*", True, True),
        ({"AWS": "*"}, True, True),
        ({"AWS": HOME}, True, True),
        ({"AWS": f"arn:aws:iam::{HOME}:root"}, True, True),
        ({"AWS": ["222222222222", f"arn:aws:iam::{HOME}:user/ann"]}, True, False),
        ({"AWS": f"arn:aws:iam::{HOME}:role/app"}, False, True),
        ({"AWS": f"arn:aws:sts::{HOME}:assumed-role/app/job"}, False, True),
        ({"AWS": f"arn:aws:sts::{HOME}:assumed-role/app/other"}, False, False),
        ({"AWS": "222222222222"}, False, False),
        ({"Service": "lambda.amazonaws.com"}, False, False),
        ({"Federated": "accounts.google.com"}, False, False),
    ],
)
def test_a_principal_means_these(principal: Any, ann: bool, job: bool) -> None:
    trust = parse_trust(document(allow(principal)))
    assert (trust.trusts(ANN, {}), trust.trusts(JOB, {})) == (ann, job)


def test_a_denial_comes_first_and_only_for_whom_it_names() -> None:
    trust = parse_trust(document(allow("*"), allow({"AWS": f"arn:aws:iam::{HOME}:user/ann"}, "Deny")))
    assert (trust.trusts(ANN, {}), trust.trusts(JOB, {})) == (False, True)


def test_conditions_and_actions_count() -> None:
    wanted = {"StringEquals": {"sts:ExternalId": "secret"}}
    trust = parse_trust(document(allow("*", Condition=wanted)))
    assert not trust.trusts(ANN, {})
    assert trust.trusts(ANN, {"sts:externalid": ("secret",)})
    assert not parse_trust(document(allow("*", action="sts:TagSession"))).trusts(ANN, {})
    assert parse_trust(document(allow("*", action=["sts:TagSession", "sts:*"]))).trusts(ANN, {})


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (allow({"Service": "lambda.amazonaws.com"}), True),
        (allow({"Service": ["ec2.amazonaws.com", "network-connectors.lambda.amazonaws.com"]}), True),
        (allow({"Service": "lambda.amazonaws.com"}, Condition={"StringEquals": {"aws:SourceAccount": HOME}}), True),
        (allow({"Service": "lambda.amazonaws.com"}, "Deny"), False),
        (allow({"Service": "evil-lambda.amazonaws.com"}), False),
        (allow({"AWS": HOME}), False),
        (allow("*"), True),
    ],
)
def test_a_trust_policy_names_lambda_or_not(statement: dict[str, Any], named: bool) -> None:
    assert parse_trust(document(statement)).names_lambda() is named


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not JSON"),
        ("[]", "the document must be an object"),
        ("{}", "Version must be 2012-10-17"),
        ('{"Version": "2012-10-17"}', "Statement must hold at least one statement"),
        ('{"Version": "2012-10-17", "Statement": {}}', "Statement"),
        ('{"Version": "2012-10-17", "Statement": ["x"]}', "Statement[0] must be an object"),
        (document({"Effect": "Allow", "Action": "sts:AssumeRole"}), "Statement[0].Principal"),
        (document(allow("ann")), "Statement[0].Principal must be *"),
        (document(allow({"Users": "ann"})), "Statement[0].Principal must be *"),
        (document(allow({"AWS": []})), "Statement[0].Principal.AWS must be a text"),
        (document(allow({"AWS": [1]})), "Statement[0].Principal.AWS must be a text"),
        (document(allow("*", Resource="*")), "Statement[0] has the prohibited element Resource"),
        (document(allow("*", "Perhaps")), "Effect must be Allow or Deny"),
        (document(allow("*", NotPrincipal="*")), "unknown element NotPrincipal"),
    ],
)
def test_what_means_nothing_is_refused_by_its_place(text: str, why: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        parse_trust(text)
    assert why in refusal.value.message
