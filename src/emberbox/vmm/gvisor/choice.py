"""Which runsc runs guests here, and whether it can."""

from __future__ import annotations

import os
from pathlib import Path

from emberbox.host.processor import find_processor
from emberbox.host.runsc.command import PLATFORM, find_version
from emberbox.host.runsc.program import ensure_runsc
from emberbox.model.errors import HostError
from emberbox.vmm.engine import Engine, Processor
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.request import EngineRequest


async def make_driver(request: EngineRequest) -> GvisorDriver:
    """Return gVisor as this server uses it.

    Raises:
        HostError: it cannot be used here; the message says what to do.
    """
    if os.geteuid() != 0:
        raise HostError("the engine gvisor needs a server that runs as root; EMBERBOX_ENGINE=qemu needs none")
    runsc = await ensure_runsc(request.home, request.runsc)
    return GvisorDriver(await find_engine(runsc), runsc)


async def find_engine(runsc: Path) -> Engine:
    """Return what its saved state is tied to: a guest sees the machine's own processor.

    Raises:
        HostError: it does not run here, or is too old.
    """
    found = find_processor()
    processor = Processor(found.vendor, found.family, found.model, found.name, found.features)
    return Engine("gVisor", await find_version(runsc), PLATFORM, processor)
