"""Which runsc runs guests here, and whether it can."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from emberbox.host.processor import find_processor
from emberbox.host.runsc.command import PLATFORM, find_version
from emberbox.model.errors import HostError
from emberbox.vmm.engine import Engine, Processor
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.request import EngineRequest

VARIABLE = "EMBERBOX_RUNSC"


async def make_driver(request: EngineRequest) -> GvisorDriver:
    """Return gVisor as this server uses it.

    Raises:
        HostError: it cannot be used here; the message says what to do.
    """
    if os.geteuid() != 0:
        raise HostError("the engine gvisor needs a server that runs as root; EMBERBOX_ENGINE=qemu needs none")
    runsc = await find_runsc(request.home)
    return GvisorDriver(await find_engine(runsc), runsc)


async def find_runsc(home: Path) -> Path:
    """Return the program: the one that EMBERBOX_RUNSC names, the home's own, or the machine's.

    Raises:
        HostError: there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    own = home / "runsc" / "usr" / "bin" / "runsc"
    if own.is_file():
        return own
    installed = shutil.which("runsc")
    if installed is None:
        raise HostError(
            f"runsc is not here: install gVisor's package runsc (bookworm-backports or Debian 13), or name the program "
            f"with {VARIABLE}"
        )
    return Path(installed)


async def find_engine(runsc: Path) -> Engine:
    """Return what its saved state is tied to: a guest sees the machine's own processor.

    Raises:
        HostError: it does not run here, or is too old.
    """
    found = find_processor()
    processor = Processor(found.vendor, found.family, found.model, found.name, found.features)
    return Engine("gVisor", await find_version(runsc), PLATFORM, processor)
