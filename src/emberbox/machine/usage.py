"""What a microVM costs the machine now."""

from __future__ import annotations

from pathlib import Path

from emberbox.host import disk, memory, usage
from emberbox.host.pagemap import find_changed_runs
from emberbox.model.usage import Usage
from emberbox.vmm.base import MachineShape, Vm

_BYTES_PER_MIB = 1 << 20


def measure_running(vm: Vm, shape: MachineShape, directory: Path) -> Usage:
    """Measure a microVM that runs, or is paused.

    Raises:
        OSError, VmmError: its VMM has ended.
    """
    runs = find_changed_runs(vm.pid, vm.memory_address(), shape.mem_size_mib * _BYTES_PER_MIB)
    return Usage(
        usage.resident_bytes(vm.pid),
        memory.count_pages(runs) * memory.PAGE_BYTES,
        own_disk_bytes(directory),
        usage.cpu_seconds(vm.pid),
    )


def measure_suspended(directory: Path) -> Usage:
    """Measure a microVM that has no VMM."""
    return Usage(0, 0, own_disk_bytes(directory), 0.0)


def own_disk_bytes(directory: Path) -> int:
    """Return what the files of a directory take on the disk, without those that other directories hold too."""
    return sum(
        disk.stored_bytes(path)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1
    )
