"""The Condition element of a policy: operators as a table ("IAM JSON policy elements: Condition operators").

An operator may end in `IfExists` and may begin with `ForAnyValue:` or `ForAllValues:`. Values of one key are
alternatives, keys and operators must all hold. A key that the request lacks fails a condition, unless the operator
is a negated one, ends in `IfExists` or begins with `ForAllValues:`.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

from emberbox.model.iam.patterns import Context, Pattern

Matcher = Callable[[str, Context], bool]
"""Says whether a value of the request matches one value of the policy."""

T = TypeVar("T")

_NAME: Final = re.compile(r"(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?")
_ARN_PARTS: Final = 6


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key.

    Attributes:
        key: the condition key, in lower case.
        matchers: one for each value of the policy.
        negated: the operator is a negated one, such as StringNotEquals.
        if_exists: the key may be absent.
        quantifier: `ForAnyValue`, `ForAllValues` or an empty string.
    """

    key: str
    matchers: tuple[Matcher, ...]
    negated: bool
    if_exists: bool
    quantifier: str

    def holds(self, context: Context) -> bool:
        """Say whether a request fulfils the condition."""
        values = context.get(self.key)
        if not values:
            if self.quantifier:
                return self.if_exists or self.quantifier == "ForAllValues"
            return self.if_exists or self.negated
        outcomes = (any(match(value, context) for match in self.matchers) != self.negated for value in values)
        needs_all = self.quantifier == "ForAllValues" or (self.negated and not self.quantifier)
        return all(outcomes) if needs_all else any(outcomes)


@dataclass(frozen=True, slots=True)
class NullCondition:
    """The operator Null: whether a key is absent."""

    key: str
    absent: frozenset[bool]

    def holds(self, context: Context) -> bool:
        """Say whether a request fulfils the condition."""
        return (not context.get(self.key)) in self.absent


def parse_conditions(document: object, place: str) -> Iterator[Condition | NullCondition]:
    """Yield the conditions of a Condition element.

    Args:
        document: the decoded JSON.
        place: where it stands, for messages.

    Raises:
        ValueError: it is malformed; the text begins with the place.
    """
    for name, keys in _items(document, place):
        where = f"{place}.{name}"
        for key, values in _items(keys, where):
            yield _parse(name, key, _texts(values, f"{where}.{key}"), f"{where}.{key}")


def _parse(name: str, key: str, texts: Sequence[str], place: str) -> Condition | NullCondition:
    found = _NAME.fullmatch(name)
    known = found[2] if found else ""
    if known == "Null" and found and not found[1] and not found[3]:
        return NullCondition(key.lower(), frozenset(_each(_boolean, texts, place)))
    if found is None or known not in _OPERATORS:
        raise ValueError(f"{place}: {name} is no condition operator")
    make, negated = _OPERATORS[known]
    return Condition(key.lower(), tuple(_each(make, texts, place)), negated, bool(found[3]), found[1] or "")


def _each(make: Callable[[str], T], texts: Sequence[str], place: str) -> Iterator[T]:
    for text in texts:
        try:
            yield make(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None


def _items(document: object, place: str) -> Iterator[tuple[str, object]]:
    if not isinstance(document, Mapping) or not document:
        raise ValueError(f"{place} must be an object that is not empty")
    yield from document.items()


def _texts(values: object, place: str) -> list[str]:
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise ValueError(f"{place} must have a value")
    for value in listed:
        if not isinstance(value, str | bool | int | float):
            raise ValueError(f"{place}: a value must be a string, a number or a boolean")
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in listed]


# --- what the operators compare


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"'{text}' is no number") from None
    if not number.is_finite():
        raise ValueError(f"'{text}' is no number")
    return number


def _moment(text: str) -> datetime:
    """Read a date: ISO 8601, or seconds since 1970."""
    try:
        if re.fullmatch(r"[0-9]{1,12}", text):
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"'{text}' is no date of the form 2026-11-24T00:00:00Z") from None


def _equal(text: str) -> Matcher:
    return Pattern(text, wildcards=False).matches


def _equal_ignoring_case(text: str) -> Matcher:
    return Pattern(text, wildcards=False, ignore_case=True).matches


def _like(text: str) -> Matcher:
    return Pattern(text).matches


def _arn(text: str) -> Matcher:
    parts = text.split(":", _ARN_PARTS - 1)
    if len(parts) != _ARN_PARTS:
        raise ValueError(f"'{text}' is no ARN: it has fewer than {_ARN_PARTS} parts")
    patterns = [Pattern(part) for part in parts]

    def matches(value: str, context: Context) -> bool:
        pairs = list(zip(patterns, value.split(":", _ARN_PARTS - 1), strict=False))
        return len(pairs) == _ARN_PARTS and all(pattern.matches(part, context) for pattern, part in pairs)

    return matches


def _address(text: str) -> Matcher:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address and no range of the form 192.0.2.0/24") from None

    def matches(value: str, _context: Context) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return matches


def _truth(text: str) -> Matcher:
    wanted = "true" if _boolean(text) else "false"
    return lambda value, _context: value.lower() == wanted


def _compared(read: Callable[[str], T], compare: Callable[[T, T], bool]) -> Callable[[str], Matcher]:
    """Return a maker of matchers that read both sides and compare them; what cannot be read never matches."""

    def make(text: str) -> Matcher:
        wanted = read(text)

        def matches(value: str, _context: Context) -> bool:
            try:
                return compare(read(value), wanted)
            except ValueError:
                return False

        return matches

    return make


_COMPARISONS: Final = {
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}


def _ordered(
    family: str,
    read: Callable[[str], Any],  # Any: numbers or moments, which can be compared with their like
) -> dict[str, tuple[Callable[[str], Matcher], bool]]:
    equal = _compared(read, operator.eq)
    return {
        f"{family}Equals": (equal, False),
        f"{family}NotEquals": (equal, True),
        **{f"{family}{name}": (_compared(read, compare), False) for name, compare in _COMPARISONS.items()},
    }


_OPERATORS: Final[Mapping[str, tuple[Callable[[str], Matcher], bool]]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equal_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn, False),
    "ArnLike": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnNotLike": (_arn, True),
    "IpAddress": (_address, False),
    "NotIpAddress": (_address, True),
    "Bool": (_truth, False),
    **_ordered("Numeric", _number),
    **_ordered("Date", _moment),
}
