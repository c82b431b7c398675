"""Checkpoints of microVMs on this machine: a new one is in the scratch directory of its name until it is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from emberbox.background import in_thread
from emberbox.host import disk
from emberbox.machine import checkpoint
from emberbox.machine.base import Plan
from emberbox.machine.guests import GuestHost
from emberbox.machine.local.places import Places
from emberbox.machine.snapshot import ImageSnapshot, load_suspended


class LocalCheckpoints:
    """They, as `base.Checkpoints`.

    Args:
        guests: knows what can be started here, and lets go of connections.
        places: where each microVM is.
    """

    def __init__(self, guests: GuestHost, places: Places) -> None:
        self._guests = guests
        self._places = places
        self._taken: dict[str, ImageSnapshot] = {}

    async def take(self, plan: Plan, name: str) -> float:
        """See `base.Checkpoints`."""
        held, directory = self._places.check("take", plan.microvm_id), self._places.scratch(name)
        if held.guest is None:
            suspended = load_suspended(held.directory)
            states = self._guests.states_of(suspended.engine)
            copied = await in_thread(checkpoint.copy_suspended, states, self._places.base(plan), suspended, directory)
            self._taken[name] = copied
            return 0.0
        draft = await held.guest.draft(directory)
        started = time.monotonic()
        await held.guest.capture(draft)
        stopped_s = time.monotonic() - started
        self._taken[name] = await draft.store()
        return stopped_s

    async def publish(self, name: str) -> None:
        """See `base.Checkpoints`."""
        taken = self._taken[name]
        self._taken[name] = await in_thread(checkpoint.publish, self._guests.states_of(taken.engine), taken)

    async def keep(self, name: str, image_id: str, version: str) -> None:
        """See `base.Checkpoints`."""
        await in_thread(self._taken[name].move_to, self._places.image(image_id, version))

    async def give(self, name: str, microvm_ids: Sequence[str]) -> None:
        """See `base.Checkpoints`."""
        base = self._taken[name]
        self._guests.check_engine(base.engine)
        await in_thread(self._give_base, base, microvm_ids)

    def _give_base(self, base: ImageSnapshot, microvm_ids: Sequence[str]) -> None:
        """Make the directories of microVMs that start from a snapshot of their own; they survive a power cut."""
        for microvm_id in microvm_ids:
            directory = self._places.directory(microvm_id)
            directory.mkdir()
            base.link_to(directory / "base")
            disk.sync(directory)
        disk.sync(self._places.microvms)

    async def drop(self, name: str) -> None:
        """See `base.Checkpoints`."""
        self._taken.pop(name, None)
        await in_thread(shutil.rmtree, self._places.scratch(name), ignore_errors=True)

    async def prepare_rollback(self, microvm_id: str, image_id: str, version: str) -> None:
        """See `base.Checkpoints`."""
        held = self._places.check("prepare_rollback", microvm_id)
        snapshot = self._places.load_snapshot(image_id, version)
        self._guests.check_engine(snapshot.engine)
        states = self._guests.states_of(snapshot.engine)
        await in_thread(checkpoint.prepare_rollback, states, snapshot, held.directory)

    async def roll_back(self, microvm_id: str) -> None:
        """See `base.Checkpoints`."""
        held = self._places.check("roll_back", microvm_id)
        guest, held.guest = held.guest, None
        if guest is not None:
            await guest.end()
        await self._guests.let_go(microvm_id)  # they are not those of the checkpoint
        await in_thread(checkpoint.roll_back, held.directory)
