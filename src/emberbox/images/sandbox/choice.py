"""Whether sandboxes of builds run on this machine, found out by running one, and what builds where they do not."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from emberbox.images.builders import ContainerBuild, ContainerBuilder
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.containers import LogLine
from emberbox.images.sandbox.base import Limits, Sandbox, SandboxPlan
from emberbox.images.sandbox.groups import BuildGroups
from emberbox.images.sandbox.gvisor import GvisorSandbox
from emberbox.images.sandbox.root import RunscFinder
from emberbox.images.sandbox.waiting import Announcer
from emberbox.model.errors import BuildError, HostError

log = logging.getLogger(__name__)

ON_HOST: Final = "Dockerfiles are built on the host, and are as trusted as this server (docs/builds.md)"
NEEDS_NETWORKS: Final = "sandboxes need root, and networks of their own (docs/network.md: tap)"
_LIMITS: Final = Limits(memory_bytes=1 << 30, disk_bytes=1 << 30, processes=100, timeout_s=30)


def make_sandbox(home: Path, runsc: str) -> GvisorSandbox:
    """Return what runs builds.

    Args:
        home: the server's.
        runsc: the setting EMBERBOX_RUNSC.
    """
    return GvisorSandbox(RunscFinder(home, runsc), BuildGroups(home))


async def find_sandbox_obstacle(sandbox: Sandbox) -> str:
    """Run `true` in a sandbox that has the host's files read only and no network.

    Returns:
        why it did not, in words; empty where it did.
    """
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="emberbox-probe-"))
    plan = SandboxPlan(directory, Path("/"), ("/bin/true",), (), (), "/mnt", None, _LIMITS)
    try:
        await sandbox.run(plan, _forget)
    except (HostError, BuildError, OSError) as error:
        return str(error)
    finally:
        await asyncio.to_thread(shutil.rmtree, directory)
    return ""


def _forget(line: str) -> None:
    log.debug("the trial of a sandbox says: %s", line)


class ChoosingBuilder:
    """Builds in sandboxes where they run, else on the host; that is found out once.

    Args:
        sandboxed: builds in sandboxes.
        on_host: builds on the host.
        obstacle: returns why sandboxes do not run here; empty: they do.
    """

    def __init__(
        self, sandboxed: ContainerBuilder, on_host: ContainerBuilder, obstacle: Callable[[], Awaitable[str]]
    ) -> None:
        self._sandboxed = sandboxed
        self._on_host = on_host
        self._obstacle = obstacle
        self._lock = asyncio.Lock()
        self._announcer = Announcer()
        self._chosen: ContainerBuilder | None = None

    async def prepare(self, say: LogLine) -> None:
        """See `builders.ContainerBuilder`."""
        await (await self._choose(say)).prepare(say)

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `builders.ContainerBuilder`."""
        return await (await self._choose(work.say)).build(work)

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `builders.ContainerBuilder`."""
        return await (await self._choose(work.say)).load(work)

    async def _choose(self, say: LogLine) -> ContainerBuilder:
        with self._announcer.heard_by(say) as say_to_all:
            async with self._lock:
                if self._chosen is None:
                    obstacle = await self._find_obstacle(say_to_all)
                    if obstacle:
                        log.warning("%s; no sandbox runs here: %s", ON_HOST, obstacle)
                    else:
                        log.info("Dockerfiles are built in gVisor sandboxes")
                    self._chosen = self._on_host if obstacle else self._sandboxed
                return self._chosen

    async def _find_obstacle(self, say: LogLine) -> str:
        """Return why sandboxes do not run here, or why what they are made of cannot be had."""
        say("Trying a sandbox for builds (gVisor is fetched the first time) ...")
        if obstacle := await self._obstacle():
            return obstacle
        try:
            await self._sandboxed.prepare(say)
        except HostError as error:
            return str(error)
        return ""
