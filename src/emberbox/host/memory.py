"""A microVM's memory as files: finding the pages it changed, and writing just those.

The kernel's page map (kernel documentation, "pagemap, from the userspace perspective") tells for each page of a
private file mapping whether it is still the file's (bit 61) or a copy that the process made by writing to it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096
RUNS_MAX = 20_000
"""Each run becomes two mappings at resume, and vm.max_map_count is 65,530 by default."""

_LIBC = ctypes.CDLL(None, use_errno=True)

Run = tuple[int, int]
"""First page and count."""

_ENTRY_BYTES = 8
_CHUNK_PAGES = 1 << 20
_COPY_PAGES = 1024
_FILE_PAGE = np.uint64(1 << 61)
_HELD = np.uint64(1 << 63 | 1 << 62)  # present or swapped out


def find_changed_runs(pid: int, address: int, length: int) -> list[Run]:
    """Return the runs of pages in a private file mapping that the process has written to.

    Args:
        pid: the process; it must not be writing while this is read.
        address: where the mapping begins.
        length: its length in bytes.

    Raises:
        OSError: the process has ended, or may not be looked at.
    """
    pages = length // PAGE_BYTES
    changed: list[NDArray[np.bool_]] = []
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:  # noqa: PTH123 - unbuffered
        pagemap.seek(address // PAGE_BYTES * _ENTRY_BYTES)
        for first in range(0, pages, _CHUNK_PAGES):
            count = min(_CHUNK_PAGES, pages - first)
            entries = np.frombuffer(_read_fully(pagemap.fileno(), count * _ENTRY_BYTES), np.uint64)
            changed.append(((entries & _HELD) != 0) & ((entries & _FILE_PAGE) == 0))
    return runs_of(np.concatenate(changed))


def _read_fully(fd: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(fd, length)
        if not part:
            raise ProcessLookupError("the process has ended")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def runs_of(flags: NDArray[np.bool_]) -> list[Run]:
    """Return the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def merge_runs(runs: Iterable[Run], limit: int = RUNS_MAX) -> list[Run]:
    """Return the union of runs as at most `limit` runs; small gaps are filled where there are more."""
    ordered = sorted(runs)
    gap = 0
    while True:
        merged: list[Run] = []
        for first, count in ordered:
            if merged and first <= merged[-1][0] + merged[-1][1] + gap:
                start, length = merged[-1]
                merged[-1] = (start, max(length, first + count - start))
            else:
                merged.append((first, count))
        if len(merged) <= limit:
            return merged
        gap = gap * 2 + 1


def count_pages(runs: Iterable[Run]) -> int:
    """Return how many pages the runs hold."""
    return sum(count for _, count in runs)


def write_pages(pid: int, address: int, runs: Sequence[Run], destination: Path, length: int) -> None:
    """Copy pages from a process into a sparse file, each to its own offset, and wait until they are stored.

    Args:
        pid: the process; it must not be writing meanwhile.
        address: where page 0 is in its address space.
        runs: the pages to copy.
        destination: the file; what else it holds stays.
        length: the size of the whole memory in bytes.

    Raises:
        OSError: the disk is full, or the process has ended.
    """
    with (
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,  # noqa: PTH123 - unbuffered
        destination.open("r+b" if destination.exists() else "w+b", buffering=0) as layer,
    ):
        os.ftruncate(layer.fileno(), length)
        for first, count in runs:
            for page in range(first, first + count, _COPY_PAGES):
                size = min(_COPY_PAGES, first + count - page) * PAGE_BYTES
                data = os.pread(memory.fileno(), size, address + page * PAGE_BYTES)
                if len(data) != size:
                    raise ProcessLookupError("the process has ended")
                _write_fully(layer.fileno(), data, page * PAGE_BYTES)
        os.fdatasync(layer.fileno())


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
            position = min(os.lseek(memory.fileno(), start, os.SEEK_HOLE), start + _CHUNK_PAGES * 16)
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
