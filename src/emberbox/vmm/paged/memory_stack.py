"""What a guest's memory was before the guest changed it: the files that its VMM has mapped over one another."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from emberbox.vmm.paged.memory import PAGE_BYTES, Pages, Run, runs_of

_PAGE_WORDS = PAGE_BYTES // 8


class MemoryStack:
    """Files of one memory, open; the lowest has every page. Made by `open_stack`."""

    def __init__(self, memory: int, layers: Sequence[tuple[int, Sequence[Run]]]) -> None:
        self._memory = memory
        self._layers = layers

    def read(self, first: int, count: int) -> bytes:
        """Return pages as they were.

        Raises:
            OSError: they cannot be read.
        """
        content = bytearray(count * PAGE_BYTES)
        view = memoryview(content)
        _read_into(self._memory, view, first)
        for layer, runs in self._layers:
            index = max(bisect.bisect_right(runs, (first, 0)) - 1, 0)
            while index < len(runs) and runs[index][0] < first + count:
                start, length = runs[index]
                index += 1
                begin, end = max(start, first), min(start + length, first + count)
                if begin < end:
                    _read_into(layer, view[(begin - first) * PAGE_BYTES : (end - first) * PAGE_BYTES], begin)
        return bytes(content)

    def pages(self, runs: Iterable[Run]) -> Iterator[Pages]:
        """Read runs of pages."""
        return ((first, self.read(first, count)) for first, count in runs)

    def differing(self, pages: Iterable[Pages]) -> Iterator[Pages]:
        """Return, of pages as they are now, those that are not as they were: many are written to and end as before.

        Raises:
            OSError: the files cannot be read.
        """
        for first, data in pages:
            before = self.read(first, len(data) // PAGE_BYTES)
            for start, count in _runs_that_differ(data, before):
                yield first + start, data[start * PAGE_BYTES : (start + count) * PAGE_BYTES]


@contextlib.contextmanager
def open_stack(memory: Path, layers: Iterable[tuple[Path, Sequence[Run]]]) -> Iterator[MemoryStack]:
    """Open the files of a memory.

    Args:
        memory: the lowest.
        layers: those over it, lowest first, each with the runs of pages that it holds, in order and apart.

    Raises:
        OSError: one cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        lowest = opened.enter_context(memory.open("rb")).fileno()
        over = [(opened.enter_context(path.open("rb")).fileno(), runs) for path, runs in layers]
        yield MemoryStack(lowest, over)


def _runs_that_differ(some: bytes, others: bytes) -> list[Run]:
    if some == others:
        return []
    pages, other_pages = (np.frombuffer(content, np.uint64).reshape(-1, _PAGE_WORDS) for content in (some, others))
    return runs_of((pages != other_pages).any(axis=1))


def _read_into(fd: int, view: memoryview, page: int) -> None:
    if os.preadv(fd, [view], page * PAGE_BYTES) != len(view):
        raise OSError(f"a memory file ends before page {page}")
