"""Which pages a process has written to in a private mapping of a file.

The kernel's page map (kernel documentation, "pagemap, from the userspace perspective") tells for each page whether it
is still the file's or a copy that the process made by writing to it. Linux 6.7 and later find these pages themselves
(the ioctl PAGEMAP_SCAN), which takes time in proportion to what the process has; before, every entry is read.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

import numpy as np
from numpy.typing import NDArray

from emberbox.vmm.paged.memory import PAGE_BYTES, Run, bridge_runs, runs_of

_ENTRY_BYTES = 8
_CHUNK_PAGES = 1 << 20
_ENTRY_IS_FILE = np.uint64(1 << 61)
_ENTRY_IS_HELD = np.uint64(1 << 63 | 1 << 62)  # present or swapped out

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_REGIONS = 4096


class _ScanArguments(ctypes.Structure):
    """struct pm_scan_arg of linux/fs.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
        )
    ]


_GAP_PAGES = 16
"""Reading so many pages more costs less than one more read."""


def find_touched_runs(pid: int, address: int, length: int) -> list[Run]:
    """Return runs that hold all pages that `find_changed_runs` finds, and some between them: fewer are read sooner."""
    return bridge_runs(find_changed_runs(pid, address, length), _GAP_PAGES)


def find_changed_runs(pid: int, address: int, length: int) -> list[Run]:
    """Return the runs of pages in a private file mapping that the process has written to.

    Args:
        pid: the process; it must not be writing while this is read.
        address: where the mapping begins.
        length: its length in bytes.

    Raises:
        OSError: the process has ended, or may not be looked at.
    """
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:  # noqa: PTH123 - unbuffered
        try:
            return scan(pagemap.fileno(), address, length)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        return read_entries(pagemap.fileno(), address, length)


def scan(pagemap: int, address: int, length: int) -> list[Run]:
    """Ask the kernel for the runs.

    Raises:
        OSError: ENOTTY where the kernel is older than 6.7; the process has ended.
    """
    regions = np.empty((_REGIONS, 3), np.uint64)  # struct page_region: start, end, categories
    arguments = _ScanArguments(
        size=ctypes.sizeof(_ScanArguments), start=address, end=address + length,
        vec=regions.ctypes.data, vec_len=_REGIONS, category_inverted=_IS_FILE, category_mask=_IS_FILE,
        category_anyof_mask=_IS_PRESENT | _IS_SWAPPED, return_mask=_IS_FILE,
    )  # fmt: skip
    found: list[Run] = []
    while arguments.start < arguments.end:
        count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, arguments)
        for start, end in ((regions[:count, :2] - np.uint64(address)) // np.uint64(PAGE_BYTES)).tolist():
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], end - found[-1][0])
            else:
                found.append((start, end - start))
        arguments.start = arguments.walk_end
    return found


def read_entries(pagemap: int, address: int, length: int) -> list[Run]:
    """Find the runs in the page map's entries, one for each page.

    Raises:
        OSError: the process has ended.
    """
    pages = length // PAGE_BYTES
    changed: list[NDArray[np.bool_]] = []
    os.lseek(pagemap, address // PAGE_BYTES * _ENTRY_BYTES, os.SEEK_SET)
    for first in range(0, pages, _CHUNK_PAGES):
        count = min(_CHUNK_PAGES, pages - first)
        entries = np.frombuffer(_read_fully(pagemap, count * _ENTRY_BYTES), np.uint64)
        changed.append(((entries & _ENTRY_IS_HELD) != 0) & ((entries & _ENTRY_IS_FILE) == 0))
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
