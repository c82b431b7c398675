"""What holds a sandbox on the host: a group of its own with the size of its guest."""

from __future__ import annotations

from typing import Final

from emberbox.background import in_thread
from emberbox.host.cgroups import Group, Groups, Limits
from emberbox.model.errors import HostError
from emberbox.vmm.base import DISK, MachineShape, VmFiles

_MIB: Final = 1 << 20
OVERHEAD_MIB: Final = 256
"""What gVisor's kernel needs beside its guest's memory, and what the host caches of files for it."""

PROCESSES_MAX: Final = 1400
"""Of the sandbox on the host: each process of the guest's is one there, and gVisor has some 20 threads. Below what it
can bear: with 1,900 it stood still for good."""


def limits_of(shape: MachineShape) -> Limits:
    """Return what a sandbox of this shape may use."""
    return Limits((shape.mem_size_mib + OVERHEAD_MIB) * _MIB, shape.vcpu_count, PROCESSES_MAX)


def files_max(files: VmFiles, shape: MachineShape) -> int:
    """Return how many bytes a guest may write to files.

    They are in its memory, and may take half of that, as Linux has it for tmpfs(5); and not more than its disk has,
    which is in the guest's directory when an image is built.
    """
    half = shape.mem_size_mib * _MIB // 2
    try:
        return min(half, (files.directory / DISK).stat().st_size)
    except FileNotFoundError:
        return half


async def make_group(groups: Groups, files: VmFiles, shape: MachineShape) -> Group:
    """Make the group of a sandbox.

    Raises:
        HostError: the machine has no more of them.
    """
    try:
        return await in_thread(groups.make, files.directory.name, limits_of(shape))
    except OSError as error:
        raise HostError(
            f"no cgroup can be made for a sandbox: {error.strerror}; `emberbox doctor` says where they are made"
        ) from error
