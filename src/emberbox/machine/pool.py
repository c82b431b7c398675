"""The warm pool: microVMs that are started but for their identity, and paused, so that a launch need not wait for them.

A pooled microVM has an id, a directory, a user, a network and a VMM of its own, but no row: it is nobody's yet. It
uses memory and no processor time. For each image version that was launched lately some are kept; they are made one at
a time when nothing has been launched or resumed for a moment, and given up when memory is short. After the server was
killed they are processes that nobody knows, and the next server ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emberbox.background import in_thread
from emberbox.host.usage import machine_memory
from emberbox.machine.guest import Guest
from emberbox.machine.guests import GuestHost
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.arns import new_microvm_id
from emberbox.model.errors import EmberboxError, VmmError
from emberbox.model.usage import Usage

log = logging.getLogger(__name__)

WARM_FOR_S = 600.0
"""How long after its last launch a version is kept warm."""

QUIET_S = 1.0
"""How long nothing has been launched or resumed before one is prepared: what callers wait for goes first."""

MEMORY_RESERVE = 8
"""One part in so many of the machine's memory stays available; the pool makes room before that."""

_INTERVAL_S = 0.25

Key = tuple[str, str]
"""Image id and version."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """A prepared microVM: the id that it will have, and its guest, paused."""

    microvm_id: str
    guest: Guest


class WarmPool:
    """Keeps prepared microVMs.

    Args:
        guests: starts guests.
        home: the state directory; microVMs live under `microvms`.
        size: how many to keep for each version; 0 keeps none.
        load_snapshot: returns the snapshot of an image version, by image id and version.
        is_launchable: says whether an image version may be launched, by image id and version.
    """

    def __init__(
        self,
        guests: GuestHost,
        home: Path,
        size: int,
        load_snapshot: Callable[[str, str], ImageSnapshot],
        is_launchable: Callable[[str, str], bool],
    ) -> None:
        self._guests = guests
        self._home = home
        self._size = size
        self._load_snapshot = load_snapshot
        self._is_launchable = is_launchable
        self._warm_until: dict[Key, float] = {}
        self._quiet_from = 0.0
        self._ready: dict[Key, list[Pooled]] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to keep what is launched from now on."""
        if self._size:
            self._task = asyncio.create_task(self._keep())

    def take(self, image_id: str, version: str) -> Pooled | None:
        """Return a prepared microVM, which is the caller's from then on, and keep the version warm.

        Returns:
            None when there is none: a launch that does not come from the pool.
        """
        if self._task is None:
            return None
        key = (image_id, version)
        self._warm_until[key] = _now() + WARM_FOR_S
        self._wanted.set()
        self.postpone()
        self._drop_dead()
        ready = self._ready.get(key)
        return ready.pop() if ready else None

    def postpone(self) -> None:
        """Prepare nothing for a moment: a caller waits for something that needs the processors."""
        self._quiet_from = _now() + QUIET_S

    def pooled(self) -> list[tuple[Key, Pooled]]:
        """Return all that is ready, with what it is of."""
        return [(key, pooled) for key, ready in self._ready.items() for pooled in ready]

    def measure(self) -> list[tuple[str, str, Usage]]:
        """Return image id and version of each with what it costs the machine now; takes some milliseconds."""
        measured = []
        for (image_id, version), pooled in self.pooled():
            with contextlib.suppress(OSError, VmmError):  # it is just being taken or ended
                measured.append((image_id, version, pooled.guest.measure()))
        return measured

    async def close(self) -> None:
        """End everything that is ready."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for key in list(self._ready):
            self._begin_to_give_up(key)
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            if not self._warm_until:
                self._wanted.clear()
                await self._wanted.wait()
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self._tend()
            except (EmberboxError, OSError) as error:  # such as a database that cannot be read for a moment
                log.warning("the warm pool could not be tended: %s", error)
            except Exception:
                log.exception("the warm pool could not be tended")

    async def _tend(self) -> None:
        """Give up what is not wanted, has died or takes memory that others need, and prepare what is missing."""
        self._drop_dead()
        for key in [key for key in self._warm_until if not self._is_warm(key)]:
            del self._warm_until[key]
            await self._give_up(key)
        if not has_room():
            for key in list(self._ready):
                await self._give_up(key)
        elif _now() >= self._quiet_from:
            await self._prepare_one()

    def _drop_dead(self) -> None:
        for ready in self._ready.values():
            for pooled in [pooled for pooled in ready if not pooled.guest.is_alive()]:
                ready.remove(pooled)
                self._begin_to_end(pooled)

    def _is_warm(self, key: Key) -> bool:
        return _now() < self._warm_until[key] and self._is_launchable(*key)

    async def _prepare_one(self) -> None:
        """Prepare a microVM of the first version that lacks one; what fails is not tried again before a launch."""
        for key in self._warm_until:
            if self._is_warm(key) and len(self._ready.get(key, ())) < self._size:
                break
        else:
            return
        microvm_id = new_microvm_id()
        directory = self._home / "microvms" / microvm_id
        directory.mkdir()
        try:
            guest = await self._guests.prepare(self._load_snapshot(*key), directory)
        except (EmberboxError, OSError) as error:
            log.warning("no microVM of image version %s %s could be prepared: %s", *key, error)
            shutil.rmtree(directory, ignore_errors=True)
            self._warm_until.pop(key, None)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        else:
            self._ready.setdefault(key, []).append(Pooled(microvm_id, guest))

    async def _give_up(self, key: Key) -> None:
        for ending in self._begin_to_give_up(key):
            await asyncio.shield(ending)

    def _begin_to_give_up(self, key: Key) -> list[asyncio.Task[None]]:
        return [self._begin_to_end(pooled) for pooled in self._ready.pop(key, [])]

    async def end(self, pooled: Pooled) -> None:
        """End one that was taken and is not used, and remove its files; whoever waits for that may be cancelled."""
        await asyncio.shield(self._begin_to_end(pooled))

    def _begin_to_end(self, pooled: Pooled) -> asyncio.Task[None]:
        task = asyncio.create_task(self._end(pooled))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _end(self, pooled: Pooled) -> None:
        try:
            await pooled.guest.end()
        except Exception:
            log.exception("the prepared %s could not be ended in order", pooled.microvm_id)
        await in_thread(shutil.rmtree, pooled.guest.directory, ignore_errors=True)


def has_room() -> bool:
    """Say whether there is memory for something that nobody waits for."""
    memory = machine_memory()
    return memory.available > memory.total // MEMORY_RESERVE


def _now() -> float:
    return asyncio.get_running_loop().time()
