"""Trust policies: who may assume a role ("IAM JSON policy elements: Principal").

A statement is one of the policy language with a Principal and without a Resource: the role is what it is about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from emberbox.model.errors import ValidationError
from emberbox.model.iam.access import Credential
from emberbox.model.iam.patterns import Context
from emberbox.model.iam.policies import Decision, Policy, decide, parse_policy

ASSUME_ROLE: Final = "sts:AssumeRole"
TAG_SESSION: Final = "sts:TagSession"
_KINDS: Final = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})


@dataclass(frozen=True, slots=True)
class _TrustStatement:
    """One statement, and whom it is about: texts of Principal, by kind."""

    principals: Mapping[str, tuple[str, ...]]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Trust:
    """A trust policy, read."""

    statements: tuple[_TrustStatement, ...]

    def trusts(self, credential: Credential, context: Context, action: str = ASSUME_ROLE) -> bool:
        """Say whether somebody may assume the role, or do something else with it.

        Args:
            credential: of who asks.
            context: the condition keys of the request.
            action: what is asked for.
        """
        names = _names_of(credential)
        about = [one.policy for one in self.statements if names.intersection(one.principals.get("AWS", ()))]
        return decide(about, action, "*", context) is Decision.ALLOW

    def names_lambda(self) -> bool:
        """Say whether AWS Lambda is among those who may; conditions are not looked at, for it asks on behalf of others.

        Connectors are known to be made with `network-connectors.lambda.amazonaws.com` too.
        """
        return self.names_service("lambda.amazonaws.com")

    def names_service(self, service: str) -> bool:
        """Say whether a service of AWS is among those who may: by its name, one below it, or as anybody."""
        return any(
            name == "*" or name == service or name.endswith(f".{service}")
            for one in self.statements
            if one.policy[0].allows
            for name in (*one.principals.get("Service", ()), *one.principals.get("AWS", ()))
        )


@lru_cache(maxsize=1024)
def parse_trust(text: str) -> Trust:
    """Read a trust policy.

    Raises:
        ValidationError: it is malformed; the message names the place.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        parse_policy(text)  # which says what is wrong with it
        raise
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not isinstance(statements, dict | list) or not statements:
        parse_policy(text)
        raise _malformed("Statement must hold at least one statement")
    listed = [statements] if isinstance(statements, dict) else statements
    return Trust(tuple(_parse(document, one, number) for number, one in enumerate(listed)))


def _parse(document: Mapping[str, Any], statement: Any, number: int) -> _TrustStatement:
    place = f"Statement[{number}]"
    if not isinstance(statement, dict):
        raise _malformed(f"{place} must be an object")
    if "Resource" in statement or "NotResource" in statement:
        raise _malformed(f"{place} has the prohibited element Resource")
    plain = {name: value for name, value in statement.items() if name != "Principal"} | {"Resource": "*"}
    policy = parse_policy(json.dumps({**document, "Statement": [plain]}))
    return _TrustStatement(_parse_principal(statement.get("Principal"), place), policy)


def _parse_principal(principal: Any, place: str) -> Mapping[str, tuple[str, ...]]:
    if principal == "*":
        return {"AWS": ("*",)}
    if not isinstance(principal, dict) or not principal or principal.keys() - _KINDS:
        raise _malformed(f"{place}.Principal must be * or name {', '.join(sorted(_KINDS))}")
    found = {}
    for kind, value in principal.items():
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(item, str) for item in listed):
            raise _malformed(f"{place}.Principal.{kind} must be a text or a list of texts")
        found[kind] = tuple(listed)
    return found


def _names_of(credential: Credential) -> frozenset[str]:
    """Return every text of a Principal that means somebody."""
    account_id = credential.account_id
    root = f"arn:aws:iam::{account_id}:root"
    return frozenset({"*", account_id, root, credential.principal_arn, credential.identity_arn})


def _malformed(why: str) -> ValidationError:
    return ValidationError(f"The policy document is malformed: {why}")
