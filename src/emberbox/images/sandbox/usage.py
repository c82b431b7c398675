"""What a gVisor sandbox takes of the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emberbox.process.adoption import descendant_pids

_MEMORY_FILE = "/memfd:runsc-memory"


@dataclass(frozen=True, slots=True)
class Usage:
    """What is taken: memory, and processes of the host, one of which stands for each in the sandbox."""

    memory_bytes: int
    processes: int


def read_usage(pid: int) -> Usage:
    """Return what a process takes together with all that it started.

    The memory of a sandbox's programs is one file, which its own processes do not have mapped as a whole.
    """
    anonymous, files = 0, dict[tuple[int, int], int]()
    found = [pid, *descendant_pids(pid)]
    for started in found:
        with contextlib.suppress(OSError):  # it has ended
            anonymous += _anonymous_bytes(started)
            files.update(_memory_files(started))
    return Usage(anonymous + sum(files.values()), len(found))


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
