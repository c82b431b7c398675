"""Filter patterns, as CloudWatch Logs has them ("Filter pattern syntax"); here for unstructured log events.

    ERROR timeout          both terms occur          ?ERROR ?WARN    any of them occurs
    "connection lost"      the exact phrase          ERROR -retry    the first occurs, the second does not

Case counts. A pattern that mixes optional terms with others ignores the optional ones, as CloudWatch does. Those for
JSON (`{ $.x = 1 }`) are in json_patterns.py; for columns (`[a, b]`), and regular expressions (`%x%`), are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from emberbox.control.logs.json_patterns import compile_json_pattern
from emberbox.model.errors import ValidationError

_TERM: Final = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')


def compile_log_pattern(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a message matches a filter pattern; an empty one matches everything.

    Raises:
        ValidationError: the pattern is of a kind that is not supported, or has a quote that never ends.
    """
    text = pattern.strip()
    if text.startswith("{"):
        return compile_json_pattern(pattern)
    if text[:1] in ("[", "%"):
        raise ValidationError(
            f'The filter pattern {pattern!r} is not supported: patterns here are terms, "phrases", -exclusions, '
            "?alternatives and { JSON }, not columns or regular expressions"
        )
    wanted: list[str] = []
    refused: list[str] = []
    optional: list[str] = []
    place = 0
    while place < len(text):
        term = _TERM.match(text, place)
        if term is None:
            raise ValidationError(f"Invalid filter pattern {pattern!r}: a quote has no end at position {place + 1}")
        sign, quoted, plain = term.groups()
        word = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        {"": wanted, "-": refused, "?": optional}[sign].append(word)
        place = term.end()
    any_of = optional if not wanted and not refused else []

    def matches(message: str) -> bool:
        return (
            all(word in message for word in wanted)
            and not any(word in message for word in refused)
            and (not any_of or any(word in message for word in any_of))
        )

    return matches
