"""What processes and the machine use, as the kernel counts it (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes of memory: all there is, and what can be had without swapping."""

    total: int
    available: int


def machine_memory() -> MachineMemory:
    """Return the machine's memory."""
    fields = _kib_fields(Path("/proc/meminfo"))
    return MachineMemory(fields["MemTotal"] * _KIB, fields["MemAvailable"] * _KIB)


def resident_bytes(pid: int) -> int:
    """Return a process's memory, its share of what several processes have mapped counted in part (PSS).

    Raises:
        OSError: the process has ended.
    """
    return _kib_fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"] * _KIB


def cpu_seconds(pid: int, *, with_ended: bool = False) -> float:
    """Return how much processor time a process has used.

    Args:
        pid: it.
        with_ended: what its children have used that have ended counts too.

    Raises:
        OSError: the process has ended.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    counted = fields[11:15] if with_ended else fields[11:13]  # utime, stime, cutime, cstime
    return sum(map(int, counted)) / _TICKS_PER_S


def _kib_fields(path: Path) -> dict[str, int]:
    """Read lines of the form `Name:   123 kB`."""
    fields = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value.split()[0])
    return fields
