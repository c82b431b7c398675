"""Patterns that templates bring along (AllowedPattern), matched only where that cannot take long.

Python's matcher tries every way to match; a pattern such as `(a+)+` would keep the whole server busy for years. So the
ways are counted beforehand, from above: each choice multiplies them.
"""

from __future__ import annotations

import re
from typing import Final

COST_MAX: Final = 10_000_000
"""Ways to match; that many take about a second."""

_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_COUNT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_GROUP: Final = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|P?<\w+>))?")


def matches(pattern: str, text: str) -> bool:
    """Say whether a pattern matches a whole text.

    Raises:
        ValueError: it is no pattern of Python's, or one that may take too long.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is not understood: {error}") from None
    if _cost(pattern, len(text)) > COST_MAX:
        raise ValueError("it may take too long: use fewer repetitions, and none inside another")
    return bool(compiled.fullmatch(text))


def _cost(pattern: str, length: int) -> float:
    """Return how many ways there may be to match a text of a length; infinite where repetitions are nested."""
    costs: list[float] = [1.0]
    last, position = 1.0, 0  # ways of what a quantifier would repeat
    while position < len(pattern):
        character = pattern[position]
        end = position + (2 if character == "\\" else 1)
        if character == "[" and (found := _CLASS.match(pattern, position)):
            last, end = 1.0, found.end()
        elif character == "(" and (found := _GROUP.match(pattern, position)):
            costs.append(1.0)
            last, end = 1.0, found.end()
        elif character == ")" and len(costs) > 1:
            last = costs.pop()
            costs[-1] *= last
        elif character == "|":
            costs[-1] *= 2
        elif (character in "*+?") or (character == "{" and _COUNT.match(pattern, position)):
            factor, end = _repeated(pattern, position, last, length)
            costs[-1] *= factor
        else:
            last = 1.0
        if costs[-1] > COST_MAX:
            return float("inf")
        position = end
    return costs[-1]


def _repeated(pattern: str, position: int, once: float, length: int) -> tuple[float, int]:
    """Return by what a quantifier multiplies the ways, and where it ends."""
    character, end = pattern[position], position + 1
    least, most = 0, 1 if character == "?" else length
    if found := _COUNT.match(pattern, position):
        least = int(found[1] or 0)
        most = int(found[3]) if found[3] else (length if found[2] else least)
        end = found.end()
    if once > 1 and most > 1:
        return once ** min(most, 64) * (most - least + 1), end
    return float(max(most - least, 0) + 1), end
