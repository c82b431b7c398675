"""What a memory was before it was changed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from emberbox.vmm.paged.memory import PAGE_BYTES, Run, runs_of
from emberbox.vmm.paged.memory_stack import open_stack

PAGES = 40


def content(*numbers: int) -> bytes:
    return b"".join(bytes([number]) * PAGE_BYTES for number in numbers)


def write(path: Path, *numbers: int) -> Path:
    path.write_bytes(content(*numbers))
    return path


def test_the_uppermost_file_that_has_a_page_counts(tmp_path: Path) -> None:
    memory = write(tmp_path / "memory", 1, 1, 1, 1, 1, 1)
    lower = write(tmp_path / "memory.1", 0, 2, 2, 2, 0, 0)
    upper = write(tmp_path / "memory.2", 0, 0, 3, 0, 0, 3)
    with open_stack(memory, [(lower, [(1, 3)]), (upper, [(2, 1), (5, 1)])]) as stack:
        assert stack.read(0, 6) == content(1, 2, 3, 2, 1, 3)
        assert stack.read(3, 2) == content(2, 1)
        assert list(stack.pages([(0, 1), (4, 2)])) == [(0, content(1)), (4, content(1, 3))]


def test_any_part_of_any_stack_reads_as_the_whole(tmp_path: Path) -> None:
    chosen = random.Random(5)
    whole = [chosen.randrange(1, 9) for _ in range(PAGES)]
    memory, layers = write(tmp_path / "memory", *whole), []
    for number in range(4):
        held = [chosen.random() < 0.4 for _ in range(PAGES)]
        values = [chosen.randrange(10, 99) if is_held else 0 for is_held in held]
        layers.append((write(tmp_path / f"memory.{number}", *values), runs_of_flags(held)))
        whole = [value if is_held else before for before, value, is_held in zip(whole, values, held, strict=True)]
    with open_stack(memory, layers) as stack:
        for first in range(PAGES):
            for count in range(1, PAGES - first + 1):
                assert stack.read(first, count) == content(*whole[first : first + count])


def runs_of_flags(flags: list[bool]) -> list[Run]:
    return runs_of(np.array(flags))


def test_pages_that_are_as_before_are_left_out(tmp_path: Path) -> None:
    memory = write(tmp_path / "memory", 1, 1, 1, 1, 0, 1)
    layer = write(tmp_path / "memory.1", 0, 2, 0, 0, 0, 0)
    last_byte = content(1)[:-1] + b"\x07"
    pages = [(0, content(1, 1, 1) + last_byte), (4, content(0, 9))]
    with open_stack(memory, [(layer, [(1, 1)])]) as stack:
        assert list(stack.differing(pages)) == [(1, content(1)), (3, last_byte), (5, content(9))]


def test_a_file_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    memory = write(tmp_path / "memory", 1, 1)
    with open_stack(memory, []) as stack, pytest.raises(OSError, match="ends before page 1"):
        stack.read(1, 2)
