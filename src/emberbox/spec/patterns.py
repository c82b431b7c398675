r"""Patterns of the service models: regular expressions of Java, turned into ones of Python.

The models' patterns are written for `java.util.regex` and are matched against the whole string. Three things
differ: `\p{L}` does not exist in Python, `.` excludes more line ends in Java, and Java takes the hyphen in
`[\w-_]` literally where Python sees a broken range. `\d`, `\w` and `\s` mean ASCII in Java.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

_DOT = r"[^\n\r\u0085\u2028\u2029]"
_CATEGORY = re.compile(r"\\p\{([A-Z])\}")
_CLASS_ESCAPES = "dDwWsS"


@cache
def compile_pattern(java: str) -> re.Pattern[str]:
    r"""Translate and compile one pattern; use `fullmatch` on the result.

    Raises:
        ValueError: the pattern uses a construct that has no translation here (set operations, `\p{Lu}`).
    """
    parts: list[str] = []
    position = 0
    while position < len(java):
        if java[position] == "[":
            text, position = _character_class(java, position)
        else:
            text, position = _token(java, position)
            text = {".": _DOT}.get(text, text)
        parts.append(text)
    try:
        return re.compile("".join(parts), re.ASCII)
    except re.error as error:
        raise ValueError(f"cannot translate the pattern {java}: {error}") from error


def _token(java: str, position: int) -> tuple[str, int]:
    r"""Read one character or escape outside a class; a bare `\p{L}` becomes a class of its own."""
    if category := _CATEGORY.match(java, position):
        return f"[{_category_ranges(category[1])}]", category.end()
    end = position + (2 if java[position] == "\\" else 1)
    return java[position:end], end


def _character_class(java: str, position: int) -> tuple[str, int]:
    """Read a bracketed class that starts at `position`; return its translation and the place after it."""
    start = position
    position += 1
    parts = ["["]
    if java[position] == "^":
        parts.append("^")
        position += 1
    after_set = False  # whether the last item was \w, \p{L} or a range, after which a hyphen is literal
    while java[position] != "]":
        if java[position] == "[" or java.startswith("&&", position):
            raise ValueError(f"set operations are not supported: {java[start:]}")
        text, position, is_set = _class_item(java, position)
        parts.append("\\-" if text == "-" and (after_set or len(parts) == 1) else text)
        after_set = is_set
    parts.append("]")
    return "".join(parts), position + 1


def _class_item(java: str, position: int) -> tuple[str, int, bool]:
    """Read one item of a class: a category, an escape, a range or a character, and whether it is a set."""
    if category := _CATEGORY.match(java, position):
        return _category_ranges(category[1]), category.end(), True
    low, position = _token(java, position)
    if low.startswith("\\") and low[1] in _CLASS_ESCAPES:
        return low, position, True
    if java[position] == "-" and java[position + 1] != "]" and low != "-":
        high, position = _token(java, position + 1)
        return f"{low}-{high}", position, True
    return low, position, False


@cache
def _category_ranges(category: str) -> str:
    """Return the code points of a Unicode general category (`L`) as the inside of a Python class."""
    runs = re.finditer(f"{category}+", _categories())
    return "".join(f"\\U{run.start():08x}-\\U{run.end() - 1:08x}" for run in runs)


@cache
def _categories() -> str:
    """Return one letter per code point: the first of its general category. Takes about 0.1 seconds."""
    return "".join(unicodedata.category(chr(point))[0] for point in range(sys.maxunicode + 1))
