"""The figures of this machine."""

from __future__ import annotations

import os

from emberbox.host.space import DiskSpace
from emberbox.host.usage import machine_memory
from emberbox.model.usage import HostFigures


def measure_host(space: DiskSpace) -> HostFigures:
    """Return what the machine has now.

    Args:
        space: the room on the disk where all state is.
    """
    memory, room = machine_memory(), space.look()
    return HostFigures(
        cpu_count=os.cpu_count() or 1,
        load_average=os.getloadavg()[0],
        memory_total=memory.total,
        memory_available=memory.available,
        disk_free=room.free,
        disk_reserve=room.reserve,
    )
