"""Cutting bytes into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emberbox.images.lines import LINE_BYTES_MAX, LineSplitter


def split(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    for chunk in chunks:
        splitter.feed(chunk)
    splitter.finish()
    splitter.finish()
    return lines


def test_lines_are_passed_on_whole() -> None:
    assert split(b"one\ntw", b"o\r\n", b"\nlast") == ["one", "two", "", "last"]


def test_a_character_that_is_cut_in_two_is_whole_again() -> None:
    encoded = "größe\n".encode()
    assert split(encoded[:3], encoded[3:]) == ["größe"]


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert split(b"\xff\xfe\n") == ["\ufffd\ufffd"]


def test_a_line_without_end_is_cut_and_not_kept() -> None:
    lines = split(*[b"x" * 5000] * 10)
    assert "".join(lines) == "x" * 50000
    assert max(map(len, lines)) <= LINE_BYTES_MAX


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_how_the_bytes_arrive_makes_no_difference(chunks: list[bytes]) -> None:
    assert split(*chunks) == split(b"".join(chunks))
