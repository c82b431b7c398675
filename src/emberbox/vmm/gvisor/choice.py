"""Which runsc runs guests here, and whether it can."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from emberbox.background import in_thread
from emberbox.host.cgroups import Groups, open_places
from emberbox.host.processor import find_processor
from emberbox.host.runsc.command import PLATFORM, find_version
from emberbox.host.runsc.mending import is_mended
from emberbox.host.runsc.program import ensure_runsc
from emberbox.host.user_namespace import OBSTACLE
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
LOST_AS_USER = (
    "guests reach NOTHING outside (no internet, no names, no instance metadata); what clients send goes by way of this "
    "server, so their connections end when it does; all sandboxes run under this one user id (docs/engines.md)"
)
"""What a server that does not run as root has less of gVisor."""

FAULTS = (
    "applications with event loops (epoll) may end or run in circles after their second resume, and those that wait "
    "for connections or messages may be told EINTR; name a runsc of June 2026 or later in EMBERBOX_RUNSC, or none, so "
    "that Debian's is taken and mended (docs/engines.md)"
)


async def make_driver(request: EngineRequest) -> GvisorDriver:
    """Return gVisor as this server uses it, after a tiny sandbox was run, saved and restored here.

    Raises:
        HostError: it cannot be used here; the message says what to do.
    """
    runsc = await ensure_runsc(request.home, request.runsc)
    groups = Groups(open_places(), request.home)
    if groups.lacks:
        log.warning("nothing limits a guest's %s: %s", ", ".join(groups.lacks), NO_LIMITS)
    engine = await find_engine(runsc)
    if not await in_thread(is_mended, runsc, engine.version):
        log.warning("%s (runsc %s): %s", runsc, engine.version, FAULTS)
    driver = GvisorDriver(engine, runsc, groups)
    if problem := await try_driver(driver):
        raise HostError(
            f"gVisor does not work here: {problem}. Mend that (`emberbox doctor` tries it again); "
            "a server with EMBERBOX_ENGINE=qemu works without it"
        )
    if os.geteuid() != 0:
        log.warning("gVisor runs as an ordinary user: %s", LOST_AS_USER)
    return driver


async def try_driver(driver: GvisorDriver) -> str:
    """Return why gVisor does not work here, and for an ordinary user also what to look at; empty when it does."""
    problem = await probe_sandbox(driver)
    return f"{problem} ({OBSTACLE})" if problem and os.geteuid() != 0 else problem


async def find_engine(runsc: Path) -> Engine:
    """Return what its saved state is tied to: a guest sees the machine's own processor.

    Raises:
        HostError: it does not run here, or is too old.
    """
    found = find_processor()
    processor = Processor(found.vendor, found.family, found.model, found.name, found.features)
    return Engine("gVisor", await find_version(runsc), PLATFORM, processor)
