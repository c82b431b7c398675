"""Identity-based policies in IAM's language, and what they decide: an explicit deny first, then an allow, else no.

The language is that of "IAM JSON policy elements reference", without Principal (a policy here belongs to a user or a
role) and without BinaryEquals.

Any: a document is whatever JSON holds until it is parsed; what comes out of that is typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from emberbox.model.errors import ValidationError
from emberbox.model.iam.conditions import Condition, NullCondition, parse_conditions
from emberbox.model.iam.patterns import Context, Pattern

CHARACTERS_MAX: Final = 6144
"""The size of a managed policy on AWS; white space does not count ("IAM and AWS STS quotas")."""

_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_DOCUMENT: Final = frozenset({"Version", "Id", "Statement"})
_STATEMENT: Final = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_SID: Final = re.compile(r"[A-Za-z0-9]{0,128}")
_ACTION: Final = re.compile(r"\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+")
_RESOURCE: Final = re.compile(r"\*|arn(:[^:]*){4}:.+", re.DOTALL)


class Decision(StrEnum):
    """What policies say about one action on one resource."""

    ALLOW = "allow"
    IMPLICIT_DENY = "implicit deny"
    EXPLICIT_DENY = "explicit deny"


@dataclass(frozen=True, slots=True)
class _Selection:
    """The patterns of Action or Resource, or of NotAction or NotResource."""

    patterns: tuple[Pattern, ...]
    negated: bool

    def selects(self, text: str, context: Context) -> bool:
        return any(pattern.matches(text, context) for pattern in self.patterns) != self.negated


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: what it is about, and whether it allows or denies that."""

    allows: bool
    actions: _Selection
    resources: _Selection
    conditions: tuple[Condition | NullCondition, ...]

    def applies(self, action: str, resource: str, context: Context) -> bool:
        """Say whether the statement is about a request."""
        return (
            self.actions.selects(action, context)
            and self.resources.selects(resource, context)
            and all(condition.holds(context) for condition in self.conditions)
        )


Policy = tuple[Statement, ...]
"""A document, read."""


def decide(policies: Iterable[Policy], action: str, resource: str, context: Context) -> Decision:
    """Say what policies decide.

    Args:
        policies: all that belong to who asks.
        action: `lambda:RunMicrovm`.
        resource: an ARN, or `*` for an action on no resource in particular.
        context: the condition keys of the request.
    """
    decision = Decision.IMPLICIT_DENY
    for policy in policies:
        for statement in policy:
            if statement.allows and decision is Decision.ALLOW:
                continue
            if statement.applies(action, resource, context):
                if not statement.allows:
                    return Decision.EXPLICIT_DENY
                decision = Decision.ALLOW
    return decision


def parse_policy(text: str) -> Policy:
    """Read a policy document.

    Args:
        text: JSON.

    Raises:
        ValidationError: it is malformed or too long; the message names the place.
    """
    size = sum(not character.isspace() for character in text)
    if size > CHARACTERS_MAX:
        raise _malformed(f"it has {size} characters without white space; at most {CHARACTERS_MAX} are allowed")
    try:
        return _parse_document(json.loads(text, object_pairs_hook=_unique_names))
    except json.JSONDecodeError as error:
        raise _malformed(f"it is not JSON: {error}") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as error:
        raise _malformed(str(error)) from None


def _malformed(why: str) -> ValidationError:
    return ValidationError(f"The policy document is malformed: {why}")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is given twice in one object")
    return dict(pairs)


def _parse_document(document: Any) -> Policy:
    _check_object(document, "the document", _DOCUMENT)
    if document.get("Version") not in _VERSIONS:
        raise ValueError(f"Version must be {_VERSIONS[0]}")
    statements = document.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    if statements is None or not listed:
        raise ValueError("Statement must hold at least one statement")
    parsed = tuple(_parse_statement(one, f"Statement[{number}]") for number, one in enumerate(listed))
    sids = [one["Sid"] for one in listed if one.get("Sid")]
    for sid in sids:
        if sids.count(sid) > 1:
            raise ValueError(f"Sid {sid} is given to more than one statement")
    return parsed


def _parse_statement(document: Any, place: str) -> Statement:
    _check_object(document, place, _STATEMENT)
    if not isinstance(sid := document.get("Sid", ""), str) or not _SID.fullmatch(sid):
        raise ValueError(f"{place}.Sid must be letters and digits")
    if document.get("Effect") not in ("Allow", "Deny"):
        raise ValueError(f"{place}.Effect must be Allow or Deny")
    conditions: tuple[Condition | NullCondition, ...] = ()
    if "Condition" in document:
        conditions = tuple(parse_conditions(document["Condition"], f"{place}.Condition"))
    return Statement(
        allows=document["Effect"] == "Allow",
        actions=_parse_selection(document, place, "Action", _ACTION, "service:Action, with * and ? in the action"),
        resources=_parse_selection(document, place, "Resource", _RESOURCE, "* or an ARN of six parts"),
        conditions=conditions,
    )


def _parse_selection(
    document: Mapping[str, Any], place: str, name: str, form: re.Pattern[str], words: str
) -> _Selection:
    given = [candidate for candidate in (name, f"Not{name}") if candidate in document]
    if len(given) != 1:
        raise ValueError(f"{place} must have either {name} or Not{name}")
    element = given[0]
    values = document[element]
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise ValueError(f"{place}.{element} must not be empty")
    patterns = []
    for value in listed:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ValueError(f"{place}.{element}: {json.dumps(value)} must be {words}")
        try:
            patterns.append(Pattern(value, ignore_case=name == "Action"))
        except ValueError as error:
            raise ValueError(f"{place}.{element}: {error}") from None
    return _Selection(tuple(patterns), element != name)


def _check_object(document: Any, place: str, names: frozenset[str]) -> None:
    if not isinstance(document, Mapping):
        raise ValueError(f"{place} must be an object")
    if unknown := sorted(document.keys() - names):
        raise ValueError(f"{place} has the unknown element {unknown[0]}")


FULL_ACCESS_DOCUMENT: Final = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
FULL_ACCESS: Final = parse_policy(FULL_ACCESS_DOCUMENT)
