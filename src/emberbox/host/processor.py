"""The machine's processor, as the kernel tells it (proc(5), cpuinfo): in other words on x86 than on AArch64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """One processor; `features` are the kernel's names, in order."""

    vendor: str
    family: int
    model: int
    name: str
    features: tuple[str, ...]


def find_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> HostProcessor:
    """Return the first processor; what is not told is empty or 0.

    Raises:
        OSError: the file cannot be read.
    """
    first = cpuinfo.read_text().partition("\n\n")[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    return HostProcessor(
        vendor=fields.get("vendor_id") or fields.get("CPU implementer", ""),
        family=int(fields.get("cpu family") or fields.get("CPU architecture", "0")),
        model=int(fields.get("model") or fields.get("CPU part", "0"), 0),
        name=fields.get("model name", ""),
        features=tuple(sorted((fields.get("flags") or fields.get("Features", "")).split())),
    )
