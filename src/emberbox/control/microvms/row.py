"""One microVM's row: what is about to happen is refused or stored, what has happened is stored for certain.

begin ──► a conditional change, before anything is done; a caller is told where it cannot be stored
note  ──► a fact; where the database cannot be written it waits its turn, and is written when it can be

Both are conditional on the generation that the owner holds: after somebody else has taken the microVM over, an earlier
owner changes nothing (docs/decisions/0028).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emberbox.background import Background, until_written
from emberbox.model.causes import Cause, caused_by, present_cause
from emberbox.model.errors import HostError
from emberbox.model.records import Microvm
from emberbox.model.states import MICROVM_TRANSITIONS, MicrovmState, find_way
from emberbox.store.microvms import MicrovmStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Fact:
    state: MicrovmState
    columns: Mapping[str, Any]  # Any: the keywords of MicrovmStore.settle
    cause: Cause
    then: Callable[[], None] | None


class MicrovmRow:
    """Writes one microVM's row.

    Attributes:
        known: the state that it has, or gets as soon as the database can be written. Only the owner changes it, so he
            need not read it.

    Args:
        store: the rows.
        microvm: as it is now; its generation is the one that the owner holds.
        background: does what has to wait for the database.
    """

    def __init__(self, store: MicrovmStore, microvm: Microvm, background: Background) -> None:
        self._store = store
        self._id = microvm.id
        self._generation = microvm.generation
        self.known = microvm.state
        self._background = background
        self._facts: deque[_Fact] = deque()
        self._writing: asyncio.Task[None] | None = None

    def state(self) -> MicrovmState:
        """Return the state that the API tells.

        Raises:
            HostError: the database cannot be read.
        """
        found = self._store.find(self._id)
        return MicrovmState.TERMINATED if found is None else found.state

    def begin(self, state: MicrovmState, reason: str | None = None) -> bool:
        """Move it to a state in which something is done; False when that may not be done where it is.

        Raises:
            HostError: that cannot be stored, so nothing may be done.
        """
        self.catch_up()
        is_changed = self._store.change_state(self._id, state, generation=self._generation, reason=reason)
        if is_changed:
            self.known = state
        return is_changed

    def note(self, state: MicrovmState, *, then: Callable[[], None] | None = None, **columns: Any) -> None:
        """Store what has happened already: now, or as soon as the database can be written.

        Args:
            state: what it is now.
            then: called when that is stored.
            columns: what MicrovmStore.settle takes beside it.
        """
        self._facts.append(_Fact(state, columns, present_cause(), then))
        if find_way(MICROVM_TRANSITIONS, self.known, state) is not None:  # else it is being terminated, and stays so
            self.known = state
        try:
            self.catch_up()
        except HostError as error:
            log.error("%s is %s, and that is stored as soon as it can be: %s", self._id, state, error)
            if self._writing is None or self._writing.done():
                work = until_written(self.catch_up, f"what became of {self._id}")
                self._writing = self._background.start(work, f"the row of {self._id}")

    def catch_up(self) -> None:
        """Store the facts that are not stored yet, in their order.

        Raises:
            HostError: the database cannot be written.
        """
        while self._facts:
            fact = self._facts[0]
            with caused_by(fact.cause.actor, fact.cause.reason):
                is_stored = self._store.settle(self._id, fact.state, generation=self._generation, **fact.columns)
            self._facts.popleft()
            if is_stored and fact.columns.get("new_incarnation"):
                self._generation += 1
            if not is_stored:  # a caller has asked for its end meanwhile: that comes next
                log.warning("%s is %s, and its row says that it ends", self._id, fact.state)
            if fact.then is not None:
                fact.then()

    def explain(self, reason: str | None) -> None:
        """Say in `stateReason` why it is as it is; None takes that back.

        Raises:
            HostError: the database cannot be written.
        """
        self._store.explain(self._id, reason, generation=self._generation)
