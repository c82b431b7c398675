"""How much memory a gVisor sandbox takes: the file that its programs' memory is, and its own processes' besides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from emberbox.process.adoption import descendants

_MEMORY_FILE = "/memfd:runsc-memory"


def used_bytes(pid: int) -> int:
    """Return the bytes of memory that a process has taken together with all that it started."""
    anonymous, files = 0, dict[tuple[int, int], int]()
    for started in (pid, *(found.pid for found in descendants(pid))):
        with contextlib.suppress(OSError):  # it has ended
            anonymous += _anonymous_bytes(started)
            for identity, size in _memory_files(started):
                files[identity] = size
    return anonymous + sum(files.values())


def _anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _memory_files(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(_MEMORY_FILE):
                status = link.stat()
                yield (status.st_dev, status.st_ino), status.st_blocks * 512
