"""Reads the process table, to show what microVMs cost the machine and that a suspended one costs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_VMM_NAME = "qemu-system"


@dataclass(frozen=True, slots=True)
class VmmUse:
    """The VMM processes of a server: how many, and their memory (a shared page counts in equal parts)."""

    count: int
    memory_bytes: int

    def __str__(self) -> str:
        noun = "process" if self.count == 1 else "processes"
        return f"{self.count} VMM {noun}, {self.memory_bytes >> 20} MiB"


def measure_vmms(server_pid: int, proc: Path = Path("/proc")) -> VmmUse:
    """Count the VMM processes below a server and sum up their memory."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for pid, name, parent in _processes(proc):
        parents[pid], names[pid] = parent, name
    found = [pid for pid in parents if names[pid].startswith(_VMM_NAME) and _is_below(pid, server_pid, parents)]
    return VmmUse(len(found), sum(_memory_bytes(proc / str(pid)) for pid in found))


def _processes(proc: Path) -> Iterator[tuple[int, str, int]]:
    for directory in proc.glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text(errors="replace")
        except OSError:  # it has ended
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if state != "Z":
            yield int(directory.name), name, int(parent)


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _memory_bytes(directory: Path) -> int:
    for name, pattern in (("smaps_rollup", r"^Pss:\s+(\d+) kB"), ("status", r"^VmRSS:\s+(\d+) kB")):
        try:
            match = re.search(pattern, (directory / name).read_text(), re.MULTILINE)
        except OSError:  # it has ended, or belongs to another user
            continue
        if match:
            return int(match[1]) << 10
    return 0
