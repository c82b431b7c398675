"""The five sizes of a microVM (AWS Lambda developer guide, "Lambda MicroVMs: launching"; dossier, section 4.1).

And those of a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DEFAULT_MEMORY_MIB: Final = 2048
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """What a microVM of a size is given. It is booted at its peak; the baseline is what quotas count.

    Args:
        baseline_mib: the `minimumMemoryInMiB` of the API.
        mem_size_mib: the guest's memory, four times the baseline.
        vcpu_count: the guest's processors, one for each 512 MiB of baseline.
        disk_bytes: the size of its writable disk.
    """

    baseline_mib: int
    mem_size_mib: int
    vcpu_count: int
    disk_bytes: int


SIZES: Final[Mapping[int, Size]] = {
    512: Size(512, 2048, 1, 8 * _GIB),
    1024: Size(1024, 4096, 2, 8 * _GIB),
    2048: Size(2048, 8192, 4, 8 * _GIB),
    4096: Size(4096, 16384, 8, 16 * _GIB),
    8192: Size(8192, 32768, 16, 32 * _GIB),
}


@dataclass(frozen=True, slots=True)
class SnapshotSizes:
    """How many bytes a snapshot takes.

    Args:
        memory: of its memory.
        code: of the root file system, which holds the image's code.
        disk: of the writable disk.
    """

    memory: int
    code: int
    disk: int
