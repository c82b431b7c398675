"""The pages that a real process has changed, found in both ways that kernels know."""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emberbox.vmm.paged import pagemap
from emberbox.vmm.paged.memory import PAGE_BYTES, Run
from emberbox.vmm.paged.pagemap import find_changed_runs

PAGES = 512
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's page map tells nothing of frames")


@pytest.fixture
def mapping(tmp_path: Path) -> tuple[mmap.mmap, int]:
    """A private mapping of a file, and its address."""
    path = tmp_path / "base"
    path.write_bytes(b"\x11" * (PAGES * PAGE_BYTES))
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    return mapping, ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def by_scan(address: int) -> list[Run]:
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        try:
            return pagemap.scan(file.fileno(), address, PAGES * PAGE_BYTES)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
            pytest.skip("this kernel is older than 6.7")


def by_entries(address: int) -> list[Run]:
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        return pagemap.read_entries(file.fileno(), address, PAGES * PAGE_BYTES)


@AS_ROOT
@pytest.mark.parametrize("find", [by_scan, by_entries])
def test_only_pages_that_were_written_to_are_changed(
    mapping: tuple[mmap.mmap, int], find: Callable[[int], list[Run]]
) -> None:
    memory, address = mapping
    assert memory[5 * PAGE_BYTES] == 0x11  # read only
    memory[3 * PAGE_BYTES + 7] = 0x22
    memory[10 * PAGE_BYTES : 12 * PAGE_BYTES] = b"\x33" * (2 * PAGE_BYTES)
    memory[(PAGES - 1) * PAGE_BYTES] = 0x44
    assert find(address) == [(3, 1), (10, 2), (PAGES - 1, 1)]


@AS_ROOT
@pytest.mark.parametrize("find", [by_scan, by_entries])
def test_many_changes_are_read_in_pieces(
    mapping: tuple[mmap.mmap, int], find: Callable[[int], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagemap, "_CHUNK_PAGES", 7)
    monkeypatch.setattr(pagemap, "_REGIONS", 3)
    memory, address = mapping
    pages = random.Random(5).sample(range(PAGES), 200)
    for page in pages:
        memory[page * PAGE_BYTES] = 0x33
    found = find(address)
    assert sorted(pages) == [page for first, count in found for page in range(first, first + count)]
    assert all(first + count < after for (first, count), (after, _) in itertools.pairwise(found))


def test_a_process_that_has_ended_is_an_error() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the moment of its end
        find_changed_runs(child.pid, 0, PAGE_BYTES)
