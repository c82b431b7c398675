"""Memory as files, with a real process whose pages are looked at."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.vmm.paged import memory
from emberbox.vmm.paged.memory import (
    PAGE_BYTES,
    bridge_runs,
    copy_runs,
    count_pages,
    merge_runs,
    read_pages,
    runs_of,
    subtract_runs,
    write_pages,
)

runs = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=60)


def pages_of(some: list[tuple[int, int]]) -> set[int]:
    return {page for first, count in some for page in range(first, first + count)}


@given(st.lists(st.booleans(), max_size=200))
def test_runs_of_names_every_true_value_once(flags: list[bool]) -> None:
    found = runs_of(np.array(flags, dtype=bool))
    assert pages_of(found) == {index for index, flag in enumerate(flags) if flag}
    assert sum(count for _, count in found) == sum(flags)


@given(runs)
def test_merged_runs_are_the_union_in_order_and_apart(some: list[tuple[int, int]]) -> None:
    merged = merge_runs(some)
    assert pages_of(merged) == pages_of(some)
    assert all(first + count < after for (first, count), (after, _) in itertools.pairwise(merged))


@given(runs, st.integers(1, 8))
def test_a_limit_on_runs_loses_no_page(some: list[tuple[int, int]], limit: int) -> None:
    merged = merge_runs(some, limit)
    assert len(merged) <= limit
    assert pages_of(merged) >= pages_of(some)


@given(runs, st.integers(0, 8))
def test_bridged_runs_hold_all_pages_and_no_gap_that_is_wider(some: list[tuple[int, int]], gap: int) -> None:
    bridged = bridge_runs(sorted(some), gap)
    assert all(after - (first + count) > gap for (first, count), (after, _) in itertools.pairwise(bridged))
    added = merge_runs(subtract_runs(bridged, some))
    assert pages_of(bridged) == pages_of(some) | pages_of(added)
    assert all(count <= gap for _, count in added)


@given(runs, runs)
def test_runs_less_others_are_the_difference_in_order_and_apart(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    left = subtract_runs(merge_runs(some), others)
    assert pages_of(left) == pages_of(some) - pages_of(others)
    assert all(first + count <= after for (first, count), (after, _) in itertools.pairwise(left))


def test_pages_are_counted() -> None:
    assert count_pages([(0, 3), (9, 1)]) == 4
    assert count_pages([]) == 0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.write_bytes(b"\x11" * (64 * PAGE_BYTES))
    return path


def map_privately(path: Path) -> tuple[mmap.mmap, int]:
    """Return a private mapping of a file and its address."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    return mapping, ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def test_pages_are_written_to_their_own_offsets(base: Path, tmp_path: Path) -> None:
    mapping, address = map_privately(base)
    mapping[3 * PAGE_BYTES : 4 * PAGE_BYTES] = b"\x22" * PAGE_BYTES
    layer = tmp_path / "layer"
    written = write_pages(read_pages(os.getpid(), address, [(3, 1), (60, 4)]), layer, 64 * PAGE_BYTES)
    assert written == [(3, 1), (60, 4)]
    content = layer.read_bytes()
    assert len(content) == 64 * PAGE_BYTES
    assert content[3 * PAGE_BYTES : 4 * PAGE_BYTES] == b"\x22" * PAGE_BYTES
    assert content[60 * PAGE_BYTES :] == b"\x11" * (4 * PAGE_BYTES)
    assert not content[4 * PAGE_BYTES : 60 * PAGE_BYTES].strip(b"\0")
    assert layer.stat().st_blocks * 512 < 10 * PAGE_BYTES


def test_a_layer_keeps_what_an_earlier_suspend_wrote(base: Path, tmp_path: Path) -> None:
    mapping, address = map_privately(base)
    layer = tmp_path / "layer"
    write_pages(read_pages(os.getpid(), address, [(3, 1)]), layer, 64 * PAGE_BYTES)
    mapping[7 * PAGE_BYTES : 8 * PAGE_BYTES] = b"\x77" * PAGE_BYTES
    write_pages(read_pages(os.getpid(), address, [(7, 1)]), layer, 64 * PAGE_BYTES)
    content = layer.read_bytes()
    assert content[3 * PAGE_BYTES] == 0x11
    assert content[7 * PAGE_BYTES] == 0x77


def test_runs_are_copied_from_one_file_of_a_memory_into_another(tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.write_bytes(b"".join(bytes([page]) * PAGE_BYTES for page in range(32)))
    copy_runs(source, [(3, 2)], destination)
    copy_runs(source, [(30, 2)], destination)
    content = destination.read_bytes()
    assert len(content) == 32 * PAGE_BYTES
    assert {page for page in range(32) if content[page * PAGE_BYTES] == page} == {0, 3, 4, 30, 31}


def test_pages_of_zeros_become_holes_and_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    block = 64
    content = bytearray(3 * block * PAGE_BYTES)
    content[:10] = b"not zeros!"
    content[block * PAGE_BYTES : (block + 1) * PAGE_BYTES] = b"\xff" * PAGE_BYTES
    content[-1] = 1
    path.write_bytes(content)
    before = path.stat().st_blocks
    memory.punch_zero_pages(path)
    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 <= 8 * PAGE_BYTES < before * 512


def test_punching_a_file_without_data_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.truncate(1 << 24)
    memory.punch_zero_pages(path)
    assert path.stat().st_size == 1 << 24
