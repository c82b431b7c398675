"""Reads the process table, to show what microVMs cost the machine and that a suspended one costs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QEMU, _KEEPER = "qemu-system", "keeper"
"""What leads the processes of a microVM: QEMU alone, or what keeps a sandbox of gVisor's, which is two of that name."""


@dataclass(frozen=True, slots=True)
class VmmUse:
    """The VMMs of a server: how many, and the memory of their processes (a shared page counts in equal parts)."""

    count: int
    memory_bytes: int

    def __str__(self) -> str:
        noun = "process" if self.count == 1 else "processes"
        return f"{self.count} VMM {noun}, {self.memory_bytes >> 20} MiB"


def measure_vmms(server_pid: int, proc: Path = Path("/proc")) -> VmmUse:
    """Count the processes below a server that lead microVMs, and sum up their memory and that of all below them."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for pid, name, parent in _processes(proc):
        parents[pid], names[pid] = parent, name
    leads = {pid for pid in parents if _leads(names[pid], names.get(parents[pid], ""))}
    found = [pid for pid in leads if _is_below(pid, server_pid, parents)]
    all_of_them = [pid for pid in parents if any(pid == one or _is_below(pid, one, parents) for one in found)]
    return VmmUse(len(found), sum(_memory_bytes(proc / str(pid)) for pid in all_of_them))


def _leads(name: str, parent_name: str) -> bool:
    return name.startswith(_QEMU) or (name == _KEEPER and parent_name != _KEEPER)


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
