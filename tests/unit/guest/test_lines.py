"""Cutting bytes into lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.guest.lines import LINE_BYTES_MAX, LineSplitter, OutputLines


def split(*chunks: bytes, most: int = 7) -> list[str]:
    lines: list[str] = []
    splitter = LineSplitter()
    for chunk in chunks:
        splitter.feed(chunk)
        while some := splitter.take(most):
            assert len(some) <= most or any(len(line) >= LINE_BYTES_MAX // 3 for line in some)
            lines += some
    lines += splitter.finish()
    assert splitter.finish() == []
    return lines


def test_lines_are_passed_on_whole() -> None:
    assert split(b"one\ntw", b"o\r\n", b"\nlast") == ["one", "two", "", "last"]


def test_a_character_that_is_cut_in_two_is_whole_again() -> None:
    encoded = "größe\n".encode()
    assert split(encoded[:3], encoded[3:]) == ["größe"]


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert split(b"\xff\xfe\n") == ["\ufffd\ufffd"]


@pytest.mark.parametrize("character", ["x", "é", "✓", "🙂"])
def test_a_line_that_is_longer_than_an_event_comes_in_pieces_that_lose_nothing(character: str) -> None:
    text = "." + character * (2_500_000 // len(character.encode()))
    encoded = text.encode()
    lines = split(*[encoded[start : start + 65536] for start in range(0, len(encoded), 65536)], b"\nnext")
    assert "".join(lines[:-1]) == text
    assert lines[-1] == "next"
    assert len(lines) == 4
    assert max(len(line.encode()) for line in lines) <= LINE_BYTES_MAX


def test_a_long_line_that_is_no_text_makes_no_event_too_long() -> None:
    lines = split(b"\xff" * 1_500_000 + b"\n")
    assert "".join(lines) == "\ufffd" * 1_500_000
    assert max(len(line.encode()) for line in lines) <= LINE_BYTES_MAX


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_how_the_bytes_arrive_makes_no_difference(chunks: list[bytes]) -> None:
    assert split(*chunks) == split(b"".join(chunks))


class Log:
    """A log that has room when it is told so."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.lines: list[str] = []

    async def wait_for_room(self) -> None:
        await self.room.wait()

    def write_all(self, lines: Sequence[str]) -> None:
        self.lines += lines


async def test_what_an_application_wrote_is_not_lost_when_nobody_waits_for_it_any_more() -> None:
    log = Log()
    output = OutputLines(log)
    taking = asyncio.create_task(output.take(1, b"one\ntw"))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    output.keep(1, b"o\nthree\n")
    output.keep(2, b"error")
    assert not log.lines
    log.room.set()
    await output.take(1, b"four\n")
    output.finish()
    assert log.lines == ["one", "two", "three", "four", "error"]


async def test_what_is_left_at_the_end_has_a_bound_and_says_so() -> None:
    log = Log()
    output = OutputLines(log)
    for _ in range(100):
        output.keep(1, b"\n" * 100_000)
    output.finish()
    assert len(log.lines) < 5000
    assert "bytes of output were dropped here" in log.lines[-1]
