"""A microVM's memory as files: reading the pages it changed, and writing just those."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096
RUNS_MAX = 20_000
"""Each run becomes two mappings at resume, and vm.max_map_count is 65,530 by default."""

Run = tuple[int, int]
"""First page and count."""

Pages = tuple[int, bytes]
"""Number of the first page, and the content of it and those after it."""

_PUNCH_BYTES = 1 << 24
_COPY_PAGES = 1024
_LIBC = ctypes.CDLL(None, use_errno=True)


def runs_of(flags: NDArray[np.bool_]) -> list[Run]:
    """Return the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def merge_runs(runs: Iterable[Run], limit: int = RUNS_MAX) -> list[Run]:
    """Return the union of runs as at most `limit` runs; small gaps are filled where there are more."""
    ordered = sorted(runs)
    gap = 0
    while len(merged := bridge_runs(ordered, gap)) > limit:
        gap = gap * 2 + 1
    return merged


def bridge_runs(ordered: Iterable[Run], gap: int) -> list[Run]:
    """Return runs, given in order, with those made one that overlap or are at most `gap` pages apart."""
    bridged: list[Run] = []
    for first, count in ordered:
        if bridged and first <= bridged[-1][0] + bridged[-1][1] + gap:
            start, length = bridged[-1]
            bridged[-1] = (start, max(length, first + count - start))
        else:
            bridged.append((first, count))
    return bridged


def subtract_runs(runs: Iterable[Run], others: Iterable[Run]) -> list[Run]:
    """Return the pages of `runs`, in order and apart, that no other run has."""
    left: list[Run] = []
    taken = merge_runs(others, sys.maxsize)
    index = 0
    for first, count in runs:
        position, end = first, first + count
        while index < len(taken) and taken[index][0] < end:
            start, length = taken[index]
            if start > position:
                left.append((position, start - position))
            position = max(position, start + length)
            if start + length > end:
                break  # it reaches into the next run
            index += 1
        if position < end:
            left.append((position, end - position))
    return left


def count_pages(runs: Iterable[Run]) -> int:
    """Return how many pages the runs hold."""
    return sum(count for _, count in runs)


def read_pages(pid: int, address: int, runs: Iterable[Run]) -> Iterator[Pages]:
    """Read pages of a process.

    Args:
        pid: the process; it must not be writing meanwhile.
        address: where page 0 is in its address space.
        runs: the pages to read.

    Raises:
        OSError: the process has ended, or may not be looked at.
    """
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - unbuffered
        for first, count in runs:
            for page in range(first, first + count, _COPY_PAGES):
                size = min(_COPY_PAGES, first + count - page) * PAGE_BYTES
                data = os.pread(memory.fileno(), size, address + page * PAGE_BYTES)
                if len(data) != size:
                    raise ProcessLookupError("the process has ended")
                yield page, data


def write_pages(pages: Iterable[Pages], destination: Path, length: int) -> list[Run]:
    """Write pages into a sparse file, each to its own offset; what else it holds stays. The caller syncs it.

    Args:
        pages: as `read_pages` gives them.
        destination: the file; made when missing.
        length: the size of the whole memory in bytes.

    Returns:
        What was written.

    Raises:
        OSError: the disk is full, or the pages cannot be read.
    """
    written: list[Run] = []
    with destination.open("r+b" if destination.exists() else "w+b", buffering=0) as layer:
        os.ftruncate(layer.fileno(), length)
        for first, data in pages:
            _write_fully(layer.fileno(), data, first * PAGE_BYTES)
            written.append((first, len(data) // PAGE_BYTES))
    return written


def copy_runs(source: Path, runs: Iterable[Run], destination: Path) -> None:
    """Copy pages from one file of a memory into another, each to its own offset; the destination is as large.

    Raises:
        OSError: the disk is full.
    """
    with source.open("rb") as reader, destination.open("r+b" if destination.exists() else "w+b") as writer:
        os.ftruncate(writer.fileno(), os.fstat(reader.fileno()).st_size)
        for first, count in runs:
            position, end = first * PAGE_BYTES, (first + count) * PAGE_BYTES
            while position < end:
                position += os.copy_file_range(reader.fileno(), writer.fileno(), end - position, position, position)


def _write_fully(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def punch_zero_pages(path: Path) -> None:
    """Turn pages of zeros into holes: a booted guest has touched many more pages than it uses."""
    with path.open("r+b", buffering=0) as memory:
        size = os.fstat(memory.fileno()).st_size
        position = 0
        while position < size:
            try:
                start = os.lseek(memory.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return
            position = min(os.lseek(memory.fileno(), start, os.SEEK_HOLE), start + _PUNCH_BYTES)
            _punch_extent(memory.fileno(), start, position)


def _punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; file systems without holes keep the zeros."""
    _LIBC.fallocate(fd, 0x03, ctypes.c_long(offset), ctypes.c_long(length))


def _punch_extent(fd: int, start: int, end: int) -> None:
    start -= start % PAGE_BYTES
    data = np.frombuffer(os.pread(fd, end - start, start), np.uint64)
    words = PAGE_BYTES // 8
    whole = data[: len(data) // words * words].reshape(-1, words)
    for first, count in runs_of(np.logical_not(whole.any(axis=1))):
        _punch_hole(fd, start + first * PAGE_BYTES, count * PAGE_BYTES)
