"""Texts of a policy that stand for many: wildcards and policy variables ("IAM JSON policy elements").

`*` is any number of characters, `?` exactly one, `${aws:username}` what the request has under that key, and
`${*}`, `${?}` and `${$}` are the characters themselves. What a variable brings in is never a wildcard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

_TOKEN: Final = re.compile(r"\$\{[^}]*\}?|[*?$]|[^*?$]+")
_ANY: Final = "*"
_LITERALS: Final = frozenset({"${*}", "${?}", "${$}"})
_VARIABLE: Final = re.compile(r"\$\{[a-zA-Z0-9-]+:[^},]+\}")


class Context(Protocol):
    """What a request says about itself: the values of a condition key, by its name in lower case."""

    def get(self, key: str, /) -> Sequence[str] | None:
        """Return the values, None when the request has no such key."""
        ...


class Pattern:
    """A text of a policy, compiled once.

    Args:
        text: the text.
        wildcards: whether `*` and `?` stand for other characters.
        ignore_case: whether capitals count.

    Raises:
        ValueError: a variable is malformed.
    """

    __slots__ = ("_fixed", "_flags", "_parts")

    def __init__(self, text: str, *, wildcards: bool = True, ignore_case: bool = False) -> None:
        self._flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._parts = [_part(token, wildcards) for token in _TOKEN.findall(text)]
        dynamic = any(part.startswith("$") for part in self._parts)
        self._fixed = None if dynamic else re.compile(_join(self._parts), self._flags)

    def matches(self, value: str, context: Context) -> bool:
        """Say whether a value is one that the text stands for; never when the request lacks a variable of it."""
        if self._fixed is not None:
            return self._fixed.fullmatch(value) is not None
        parts = [_resolve(part, context) for part in self._parts]
        known = [part for part in parts if part is not None]
        return len(known) == len(parts) and re.fullmatch(_join(known), value, self._flags) is not None


def _part(text: str, wildcards: bool) -> str:
    """Return a piece of a regular expression, `*`, or `$` with the name of a condition key."""
    if text in _LITERALS:
        return re.escape(text[2])
    if text.startswith("${"):
        if not _VARIABLE.fullmatch(text):
            raise ValueError(f"{text} is no policy variable")
        return f"${text[2:-1].lower()}"
    if wildcards and text == _ANY:
        return _ANY
    return "." if wildcards and text == "?" else re.escape(text)


def _resolve(part: str, context: Context) -> str | None:
    """Return a part with its variable filled in, None when the request has not exactly one value for it."""
    if not part.startswith("$"):
        return part
    found = context.get(part[1:]) or ()
    return re.escape(found[0]) if len(found) == 1 else None


def _join(parts: Sequence[str]) -> str:
    """Join pieces into one expression whose stars never backtrack, so that no pattern is slow."""
    sections = [""]
    for part in parts:
        if part == _ANY:
            sections.append("")
        else:
            sections[-1] += part
    if len(sections) == 1:
        return sections[0]
    first, *middle, last = sections
    return first + "".join(f"(?>.*?{section})" for section in middle if section) + f".*{last}"
