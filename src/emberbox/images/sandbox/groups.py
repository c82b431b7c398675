"""Control groups around sandboxes of builds: the limits that the host's kernel itself holds them to."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from emberbox.background import in_thread
from emberbox.host import cgroups
from emberbox.host.cgroups import Group, Place, open_places
from emberbox.images.sandbox.base import Limits

log = logging.getLogger(__name__)

_SHARE: Final = 50
"""Where processors are scarce, a build gets half of what another group of processes gets."""


class BuildGroups:
    """Makes a group for each build. Where they are made is found at the first.

    Args:
        home: of the server; its groups are named after it, so that the next server removes what is left of them.
        open_places: returns where groups can be made.
    """

    def __init__(self, home: Path, open_places: Callable[[], Sequence[Place]] = open_places) -> None:
        self._home = home
        self._open_places = open_places
        self._groups: cgroups.Groups | None = None

    @contextlib.asynccontextmanager
    async def around(self, limits: Limits) -> AsyncIterator[Group | None]:
        """Give a group for as long as the block lasts; what is in it must have ended then.

        Args:
            limits: of memory, processes and processors.

        Returns:
            None where this server can make none that holds all of them; the log says so.
        """
        group = await in_thread(self._make, limits)
        try:
            yield group
        finally:
            if group is not None:
                await in_thread(group.remove)

    def _make(self, limits: Limits) -> Group | None:
        if self._groups is None:
            self._groups = cgroups.Groups(self._open_places(), self._home)
            if self._groups.lacks:
                log.warning("builds are watched: no cgroup here limits their %s", ", ".join(self._groups.lacks))
        if self._groups.lacks:
            return None
        held = cgroups.Limits(limits.memory_bytes, limits.processors, limits.host_tasks(), _SHARE)
        try:
            return self._groups.make("build", held)
        except OSError as error:
            log.warning("a build is watched, since no cgroup can be made for it: %s", error.strerror)
            return None
