"""Filter patterns for log events that are JSON objects, as CloudWatch Logs has them ("Filter pattern syntax").

    { $.level = "ERROR" }                  { $.status >= 500 && $.path != "/health*" }
    { $.user.roles[0] = admin }            { ($.a = 1 || $.b IS TRUE) && $.c NOT EXISTS && $.d IS NULL }

A value in quotes or without is a text in which `*` stands for anything; one that is a number is compared as such. `&&`
binds closer than `||`. An event that is no JSON object matches nothing, and of a property that an event lacks only NOT
EXISTS is true. Regular expressions (`%x%`) are refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any, Final

from emberbox.model.errors import ValidationError

Match = Callable[[Any], bool]
"""Says whether a parsed event matches. Any: JSON."""

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<sign>&&|\|\||[(){}]|!=|<=|>=|=|<|>)
    |(?P<path>\$(?:\.[\w-]+|\[[0-9]{1,6}\])+)
    |"(?P<quoted>(?:[^"\\]|\\.)*)"
    |(?P<word>[^\s"(){}&|=<>!%]+))""",
    re.VERBOSE | re.ASCII,
)
_STEP: Final = re.compile(r"\.([\w-]+)|\[([0-9]+)\]", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_ORDERS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_STATES: Final[dict[str, object]] = {"NULL": None, "TRUE": True, "FALSE": False}
_DEPTH_MAX: Final = 50
_ABSENT: Final = object()


def compile_json_pattern(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a message matches.

    Args:
        pattern: begins with a brace.

    Raises:
        ValidationError: it is malformed, or of a kind that is not supported.
    """
    match = _Reader(pattern).read()

    def matches(message: str) -> bool:
        if not message.lstrip().startswith("{"):
            return False
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):  # what a guest has written may be nested without end
            return False
        return match(event)

    return matches


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._text = pattern.strip()
        self._place = 0

    def read(self) -> Match:
        self._take("{")
        match = self._either(0)
        self._take("}")
        if self._place != len(self._text):
            raise self._invalid("nothing may come after the last brace")
        return match

    def _either(self, depth: int) -> Match:
        found = [self._both(depth)]
        while self._is_next("||"):
            found.append(self._both(depth))
        return found[0] if len(found) == 1 else lambda event: any(match(event) for match in found)

    def _both(self, depth: int) -> Match:
        found = [self._one(depth)]
        while self._is_next("&&"):
            found.append(self._one(depth))
        return found[0] if len(found) == 1 else lambda event: all(match(event) for match in found)

    def _one(self, depth: int) -> Match:
        if depth > _DEPTH_MAX:
            raise self._invalid("too many parentheses are open")
        if self._is_next("("):
            match = self._either(depth + 1)
            self._take(")")
            return match
        select = _selector(self._next("path", "a selector such as $.name"))
        if (sign := self._peek("sign")) in ("=", "!=", *_ORDERS):
            self._place = self._found.end()
            test = self._comparison(sign)
        else:
            test = self._state()
        return lambda event: test(select(event))

    def _comparison(self, sign: str) -> Match:
        quoted = self._peek("quoted")
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else self._next("word", "a value")
        self._place = self._found.end()
        number = float(text) if quoted is None and _NUMBER.fullmatch(text) else None
        if sign in _ORDERS:
            if number is None:
                raise self._invalid(f"{sign} compares numbers")
            order = _ORDERS[sign]
            return lambda value: _is_number(value) and order(value, number)
        same = _equality(text, number)
        if sign == "=":
            return lambda value: value is not _ABSENT and same(value)
        return lambda value: value is not _ABSENT and not same(value)

    def _state(self) -> Match:
        words = (self._next("word", "=, IS or NOT EXISTS"), self._next("word", "NULL, TRUE, FALSE or EXISTS"))
        if words == ("NOT", "EXISTS"):
            return lambda value: value is _ABSENT
        if words[0] == "IS" and words[1] in _STATES:
            wanted = _STATES[words[1]]
            return lambda value: value is wanted
        raise self._invalid(f"{' '.join(words)} is not known")

    def _peek(self, kind: str) -> str | None:
        found = _TOKEN.match(self._text, self._place)
        if found is None:
            return None
        self._found = found
        return found[kind]

    def _next(self, kind: str, wanted: str) -> str:
        text = self._peek(kind)
        if text is None:
            raise self._invalid(f"{wanted} is expected at position {self._place + 1}")
        self._place = self._found.end()
        return text

    def _is_next(self, sign: str) -> bool:
        if self._peek("sign") != sign:
            return False
        self._place = self._found.end()
        return True

    def _take(self, sign: str) -> None:
        if not self._is_next(sign):
            raise self._invalid(f"{sign} is expected at position {self._place + 1}")

    def _invalid(self, why: str) -> ValidationError:
        return ValidationError(f"Invalid filter pattern {self._pattern!r}: {why}")


def _selector(path: str) -> Callable[[Any], object]:
    steps = [name or int(index) for name, index in _STEP.findall(path)]

    def select(value: Any) -> object:
        for step in steps:
            if isinstance(step, str):
                value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else _ABSENT
        return value

    return select


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equality(text: str, number: float | None) -> Match:
    """Texts are compared with texts, and numbers with numbers; a number with wildcards is compared as it is written."""
    parts = text.split("*")

    def same(value: Any) -> bool:
        if number is not None and _is_number(value):
            return bool(value == number)
        if isinstance(value, dict | list):
            return False
        written = value if isinstance(value, str) else json.dumps(value)
        return written == text if len(parts) == 1 else _fits(written, parts)

    return same


def _fits(text: str, parts: list[str]) -> bool:
    """Say whether a text has these parts in order, the first at its beginning and the last at its end."""
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True
