"""Java's regular expressions in Python."""

import faulthandler
from collections.abc import Iterator

import pytest

from emberbox.spec.models import SERVICES, load_service
from emberbox.spec.patterns import compile_pattern

EVERY_PATTERN = sorted(
    {
        pattern
        for service in SERVICES
        for name in load_service(service).shape_names
        if (pattern := load_service(service).shape_for(name).metadata.get("pattern"))
    }
)
ROLE = r"arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"


def test_the_models_have_patterns() -> None:
    assert ROLE in EVERY_PATTERN
    assert len(EVERY_PATTERN) > 30


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("[a-zA-Z0-9-_]+", ["a", "A-_9", "-"], ["", "a b", "a.b", "é", "a\n"]),
        (r"[\w-_]*", ["", "a-_9"], ["é", "a b"]),
        (r"[^\s]+", ["a", "é", "a\u00a0b"], ["", "a b", "a\t", "\x0b"]),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", ["", "é 中9@-", "\U00020000", "a/b:c=d"], ["#", "a\tb", "😀"]),
        (r"[^\p{C}]*", ["a b é"], ["\x00", "\u200b", "\n"]),
        (r"\p{L}", ["é"], ["9", "éé"]),
        (".+", ["a b"], ["a\nb", "a\rb", "a\u2028b", "a\u0085b"]),
        (r"a\.b", ["a.b"], ["axb", r"a\.b"]),
        (r"^\d{12}$", ["123456789012"], ["12345678901", "١٢٣٤٥٦٧٨٩٠١٢", "123456789012\n"]),
        ("[^:*]*", ["", "[$LATEST]x"], ["a:b", "*"]),
        (
            ROLE,
            ["arn:aws:iam::123456789012:role/a/b"],
            ["arn:aws:iam::12:role/a", "arn:aws:iam::123456789012:role"],
        ),
    ],
)
def test_patterns_match_what_java_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [text for text in good if not compiled.fullmatch(text)] == []
    assert [text for text in bad if compiled.fullmatch(text)] == []


@pytest.fixture
def hang_guard() -> Iterator[None]:
    """End the run, with a traceback, where a match would go on for years."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("pattern", ["[a[b]]", "[a-z&&[aeiou]]", r"[\p{Lu}]", r"\P{L}"])
def test_constructs_without_a_translation_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"set operations|cannot translate"):
        compile_pattern(pattern)


def test_no_pattern_of_the_models_backtracks_catastrophically(hang_guard: None) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:"
    stems = [
        "",
        "a",
        "/",
        arn,
        f"{arn}function:",
        f"{arn}microvm-image:",
        "arn:aws:iam::123456789012:role/",
        "s3://a",
    ]
    texts = [stem + filler * 5_000 + "\n" for stem in stems for filler in ("a", "-", "/", "a|", ".a", "1:")]
    for pattern in EVERY_PATTERN:
        compiled = compile_pattern(pattern)
        for text in texts:
            compiled.fullmatch(text)
