"""What a microVM costs the machine now."""

from __future__ import annotations

from pathlib import Path

from emberbox.host import disk
from emberbox.model.usage import Usage
from emberbox.vmm.base import Vm


def measure_running(vm: Vm, directory: Path) -> Usage:
    """Measure a microVM that runs, or is paused.

    Raises:
        OSError, VmmError: its VMM has ended.
    """
    used = vm.usage()
    return Usage(used.memory_bytes, used.changed_bytes, own_disk_bytes(directory), used.cpu_s)


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
