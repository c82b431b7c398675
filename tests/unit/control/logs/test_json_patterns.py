"""Filter patterns for events that are JSON: what they match, and what is refused."""

from __future__ import annotations

import json

import pytest

from emberbox.control.logs.json_patterns import compile_json_pattern
from emberbox.model.errors import ValidationError

EVENT = {
    "level": "ERROR",
    "status": 503,
    "late": 1.5,
    "text": '3 of 4: "quoted" \\ slash',
    "code": "404",
    "who": {"type": "Root", "roles": ["admin", {"name": "ops"}], "in-by_name": None},
    "ok": True,
    "bad": False,
}


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.level = "ERROR" }',
        "{ $.level = ERROR }",
        '{$.level="ERR*"}',
        '{ $.level = "*R*R*" }',
        '{ $.level = "*" }',
        '{ $.level != "INFO" }',
        '{ $.text = "3 of 4: \\"quoted\\" \\\\ slash" }',
        "{ $.status = 503 }",
        "{ $.status = 5.03e2 }",
        "{ $.status = 50* }",
        "{ $.status != 200 }",
        "{ $.status >= 503 && $.status <= 503 }",
        "{ $.late > 1.4 && $.late < 2 }",
        "{ $.code = 404 }",
        "{ $.ok IS TRUE && $.bad IS FALSE && $.ok = true }",
        "{ $.who.in-by_name IS NULL }",
        "{ $.who.missing NOT EXISTS }",
        "{ $.who.roles[0] = admin && $.who.roles[1].name = ops && $.who.roles[2] NOT EXISTS }",
        "{ $.level.x NOT EXISTS && $.who[0] NOT EXISTS }",
        "{ $.level = INFO || $.status = 503 && $.ok IS TRUE }",
        "{ ($.level = INFO || $.status = 503) && $.ok IS TRUE }",
        "{ $.who != Root }",
    ],
)
def test_it_matches(pattern: str) -> None:
    assert compile_json_pattern(pattern)(json.dumps(EVENT))


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.level = "error" }',
        '{ $.level = "ERRORS*" }',
        '{ $.level = "*INFO*" }',
        '{ $.level = "ERROR*ERROR" }',
        '{ $.status = "503.0" }',
        "{ $.status < 503 }",
        "{ $.code > 1 }",
        "{ $.ok > 0 }",
        "{ $.ok = 1 }",
        "{ $.ok IS NULL }",
        "{ $.late IS TRUE }",
        "{ $.who NOT EXISTS }",
        "{ $.missing IS NULL }",
        "{ $.missing = x }",
        "{ $.missing != x }",
        "{ $.who = Root }",
        "{ $.level = INFO && $.status = 503 || $.bad IS TRUE }",
        "{ $.level = ERROR && ($.status = 200 || $.bad IS TRUE) }",
    ],
)
def test_it_does_not_match(pattern: str) -> None:
    assert not compile_json_pattern(pattern)(json.dumps(EVENT))


@pytest.mark.parametrize(
    "message",
    ["", "ERROR", "[1]", '"text"', '{"level": ', "{" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, '{"x": 1' + "0" * 9999],
)
def test_what_is_no_json_object_matches_nothing(message: str) -> None:
    assert not compile_json_pattern("{ $.level NOT EXISTS }")(message)


def test_numbers_of_any_size_are_compared() -> None:
    matches = compile_json_pattern("{ $.x > 1e300 && $.x != NaN }")
    assert matches('{"x": 1' + "0" * 400 + "}")
    assert not matches('{"x": 1}')


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        "{}",
        "{ $.x }",
        "{ $.x = }",
        "{ $.x = 1",
        "{ $.x = 1 } y",
        "{ $.x = 1 && }",
        "{ x = 1 }",
        "{ $ = 1 }",
        "{ $.x > text }",
        '{ $.x > "1" }',
        "{ $.x EXISTS }",
        "{ $.x IS MAYBE }",
        "{ ($.x = 1 }",
        '{ $.x = "open }',
        "{ $.x = %[0-9]+% }",
        "{ " + "(" * 100 + "$.x = 1" + ")" * 100 + " }",
    ],
)
def test_what_is_malformed_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="Invalid filter pattern"):
        compile_json_pattern(pattern)


def test_wildcards_take_no_more_time_than_the_text_is_long() -> None:
    matches = compile_json_pattern('{ $.x = "' + "*a" * 400 + 'b" }')
    assert not matches(json.dumps({"x": "a" * 200_000}))
