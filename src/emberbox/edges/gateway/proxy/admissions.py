"""Requests that Envoy lets pass by itself, because the authoriser has let one like them pass on the same connection.

    authoriser ──admission "slot:epoch:expires"──► Envoy (admissions.lua) keeps it with the verdict
    next request alike ──► Envoy: is the slot's epoch in the shared file still the admission's?
                             yes ──► count it in the file, and to the guest      no ──► ask the authoriser

To ask costs as much as all else that Envoy does for a request. An admission must never outlive what it rests on: the
server revokes it, by counting up the slot's epoch, before it suspends or ends the microVM, and then waits for what had
passed. What has passed is in the file, what has ended is in Envoy's reports; the difference is under way.

The file outlives a killed server, and Envoy goes on with it. So the next server counts up all epochs before it does
anything else.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from emberbox.model.errors import HostError

SLOTS: Final = 16_384
"""Admissions at a time; microVMs beyond are asked about each time."""

THREADS: Final = 4
"""Envoy's threads, at most: one serves some thousand requests a second, and the authoriser is one itself."""

LIFE_S: Final = 60
SETTLED_S: Final = 0.005
"""After an epoch has changed, what was counted under the earlier one can be seen within this time."""

_NUMBER_BYTES: Final = 4
_EPOCHS: Final = 1 << 32


@dataclass(slots=True)
class _Admission:
    """`base` is what had passed in the slot before; `lasting` are requests of more than a second."""

    slot: int
    epoch: int
    base: int
    ended: int = 0
    lasting: set[str] = field(default_factory=set)


class Admissions:
    """Hands out admissions, one for each microVM at a time. Belongs to one event loop.

    Args:
        path: the shared file, made when missing; its directory must exist.

    Raises:
        HostError: the file cannot be made or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = _NUMBER_BYTES * SLOTS * (1 + THREADS)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, size)  # a full disk must not be found out by a write to memory
                self.inode = os.fstat(file).st_ino
                self._memory = mmap.mmap(file, size)
            finally:
                os.close(file)
        except OSError as error:
            raise HostError(f"the gateway's admissions cannot be kept in {path}: {error.strerror}") from error
        self._numbers = memoryview(self._memory).cast("I")
        self._free = deque(range(SLOTS))
        self._of_microvm: dict[str, _Admission] = {}
        self._of_slot: dict[int, _Admission] = {}
        for slot in range(SLOTS):
            self._count_up(slot)

    def close(self) -> None:
        """Revoke everything and let go of the file."""
        self.forget()
        self._numbers.release()
        self._memory.close()

    def admit(self, microvm_id: str) -> str | None:
        """Return a microVM's admission as `slot:epoch`; None when there are too many."""
        admission = self._of_microvm.get(microvm_id)
        if admission is None:
            if not self._free:
                return None
            slot = self._free.popleft()
            admission = _Admission(slot, self._numbers[slot], self._passed(slot))
            self._of_microvm[microvm_id] = self._of_slot[slot] = admission
        return f"{admission.slot}:{admission.epoch}"

    def revoke(self, microvm_id: str) -> None:
        """Let Envoy ask again about every request for a microVM, from now on."""
        admission = self._of_microvm.pop(microvm_id, None)
        if admission is not None:
            self._count_up(admission.slot)
            self._free.append(admission.slot)

    async def settle(self, microvm_id: str) -> Underway:
        """Revoke, and return what passed before and is still under way."""
        admission = self._of_microvm.get(microvm_id)
        self.revoke(microvm_id)
        if admission is None:
            return Underway(0, None)
        await asyncio.sleep(SETTLED_S)
        return Underway(self._passed(admission.slot) - admission.base, admission)

    def note_end(self, name: str, request_id: str) -> None:
        """Take note that a request has ended that passed by the admission of this name."""
        if (admission := self._find(name)) is not None:
            admission.ended += 1
            admission.lasting.discard(request_id)

    def note_lasting(self, name: str, request_id: str) -> None:
        """Take note that one has lasted for a second."""
        if (admission := self._find(name)) is not None:
            admission.lasting.add(request_id)

    def forget(self) -> None:
        """Start from nothing: Envoy has ended, and with it every request."""
        for microvm_id in list(self._of_microvm):
            self.revoke(microvm_id)
        self._of_slot.clear()

    def _find(self, name: str) -> _Admission | None:
        slot, _, epoch = name.partition(":")
        if not (slot.isdecimal() and epoch.isdecimal()):
            return None
        admission = self._of_slot.get(int(slot))
        return admission if admission is not None and admission.epoch == int(epoch) else None

    def _count_up(self, slot: int) -> None:
        self._numbers[slot] = (self._numbers[slot] + 1) % _EPOCHS

    def _passed(self, slot: int) -> int:
        return sum(self._numbers[SLOTS * (1 + thread) + slot] for thread in range(THREADS))


@dataclass(slots=True)
class Underway:
    """Requests that passed by an admission which has been revoked."""

    passed: int
    admission: _Admission | None

    def young(self) -> int:
        """Return how many of them have not ended, and not lasted for a second either."""
        if self.admission is None:
            return 0
        return self.passed - self.admission.ended - len(self.admission.lasting)
