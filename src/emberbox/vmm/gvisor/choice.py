"""Which runsc runs guests here, and whether it can."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from emberbox.host.cgroups import Groups, open_places
from emberbox.host.processor import find_processor
from emberbox.host.runsc.command import PLATFORM, find_version
from emberbox.host.runsc.program import ensure_runsc
from emberbox.model.errors import HostError
from emberbox.vmm.engine import Engine, Processor
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.gvisor.probe import probe_sandbox
from emberbox.vmm.request import EngineRequest

log = logging.getLogger(__name__)

NO_LIMITS = (
    "cgroups cannot be made below the server's own; give its service a part of the hierarchy (systemd: Delegate=yes), "
    "or limit the server as a whole"
)


async def make_driver(request: EngineRequest) -> GvisorDriver:
    """Return gVisor as this server uses it, after a tiny sandbox was run, saved and restored here.

    Raises:
        HostError: it cannot be used here; the message says what to do.
    """
    if os.geteuid() != 0:
        raise HostError("the engine gvisor needs a server that runs as root; EMBERBOX_ENGINE=qemu does not")
    runsc = await ensure_runsc(request.home, request.runsc)
    groups = Groups(open_places(), request.home)
    if groups.lacks:
        log.warning("nothing limits a guest's %s: %s", ", ".join(groups.lacks), NO_LIMITS)
    driver = GvisorDriver(await find_engine(runsc), runsc, groups)
    if problem := await probe_sandbox(driver):
        raise HostError(
            f"gVisor does not work here: {problem}. Mend that (`emberbox doctor` tries it again); "
            "a server with EMBERBOX_ENGINE=qemu works without it"
        )
    return driver


async def find_engine(runsc: Path) -> Engine:
    """Return what its saved state is tied to: a guest sees the machine's own processor.

    Raises:
        HostError: it does not run here, or is too old.
    """
    found = find_processor()
    processor = Processor(found.vendor, found.family, found.model, found.name, found.features)
    return Engine("gVisor", await find_version(runsc), PLATFORM, processor)
