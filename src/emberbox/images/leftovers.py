"""What builds of a server that was killed have left: tools, containers, mounts and files."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from emberbox.host import foreign_programs, scratch
from emberbox.host.architecture import ARM_64
from emberbox.host.bootstrap import SCRATCH
from emberbox.images.containers import Containers
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)


async def clear_builds(home: Path) -> None:
    """End and remove all of it; what cannot be removed now is tried again at the next start.

    Args:
        home: the state directory.

    Raises:
        HostError: a tool does not end, or is another user's.
    """
    kinds = ("", f"-{ARM_64.debian}")  # what this machine has, and what it emulates
    places = [home / "builds", home / "packages"]
    places += [home / f"{name}{kind}" for name in ("containers", "kernel") for kind in kinds]
    if ended := await asyncio.to_thread(scratch.end_tools, places):
        log.warning("%d tools of an earlier server were ended", ended)
    try:
        await foreign_programs.clear(home)
        for made in ("builder", *(f"base{kind}" for kind in kinds)):
            await scratch.remove_outside(home / made / SCRATCH)
        for build in (home / "builds").iterdir():
            await Containers(build / "containers").remove()
            await scratch.remove_tree(build)
    except (HostError, OSError) as error:
        log.error("what an earlier server's build has left cannot be removed: %s", error)
