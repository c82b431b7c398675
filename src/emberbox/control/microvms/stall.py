"""A microVM that stands still though it is RUNNING: its VMM could not write, as the host's disk is full.

Nothing is lost: the write waits in the VMM. It goes on by itself when there is room, and says so meanwhile in its
`stateReason`, which is kept here, since the full disk may not take it into the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from emberbox.machine.base import Room
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import ConflictError, HostError
from emberbox.store.microvms import MicrovmStore

log = logging.getLogger(__name__)

RETRY_S, RETRY_MAX_S = 1.0, 16.0
"""Between tries where something other than the disk's size limits it, such as a quota."""


class Stall:
    """Whether one microVM stands still, and its waiting for room.

    Attributes:
        reason: why it stands still; None when it does not.

    Args:
        microvm_id: whose.
        store: takes the events.
        room: the room on the disk.
    """

    def __init__(self, microvm_id: str, store: MicrovmStore, room: Room) -> None:
        self._id = microvm_id
        self._store = store
        self._room = room
        self._given_up = asyncio.Event()
        self._retry_s = RETRY_S
        self.reason: str | None = None

    def check(self) -> None:
        """Refuse what a guest that stands still cannot do.

        Raises:
            ConflictError: it does; the text says why, and what to do.
        """
        if self.reason is not None:
            raise ConflictError(f"{self._id}: {self.reason}")

    async def wait_for_room(self) -> bool:
        """Say that it stands still, until its VMM can try to write again; False when it is given up before that."""
        if self.reason is None:
            self.reason = (
                f"The MicroVM stands still, as {self._room.explain()}. It goes on by itself when there is room."
            )
            log.warning("%s: %s", self._id, self.reason)
            self._note_event(self.reason)
        given_up = asyncio.create_task(self._given_up.wait())
        room = asyncio.create_task(self._find_room())
        try:
            await asyncio.wait((given_up, room), return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            room.cancel()
        return not self._given_up.is_set()

    async def _find_room(self) -> None:
        if self._room.is_full:
            await self._room.wait_until(full=False)
        else:  # that is not known yet, or it is not the disk's size: try, ever more rarely
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)

    def end(self) -> None:
        """Say that it goes on, if it has stood still."""
        if self.reason is not None:
            self.reason, self._retry_s = None, RETRY_S
            log.info("%s goes on: there is room on the disk", self._id)
            self._note_event("The MicroVM goes on: there is room on the disk of the host.")

    def give_up(self) -> None:
        """Wait for no room any more, now or later: it is terminated, or the server stops."""
        self._given_up.set()

    def _note_event(self, reason: str) -> None:
        with caused_by(Actor.SERVER, reason), contextlib.suppress(HostError):
            self._store.note_event(self._id, reason)
