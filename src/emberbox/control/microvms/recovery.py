"""What becomes of each microVM when a server starts: decided from its row, its files and its VMM.

A killed server leaves rows that say what was under way. Two facts on the machine say how far it got: whether
`suspended.json` is there (then the saved state is the truth, and a VMM beside it has not run since), and whether the
VMM runs that was started last (then it is the microVM, running, paused or frozen). docs/crash-safety.md has the same
table in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from emberbox.machine.base import Leftovers
from emberbox.model.records import Microvm
from emberbox.model.states import MicrovmState


class Fate(StrEnum):
    """What is done with a microVM at the start of a server."""

    LAUNCH = "launch"  # from the image, afresh: no request has been let in yet
    ADOPT = "adopt"  # its VMM goes on; a suspend or resume under way is undone or finished
    KEEP_SUSPENDED = "keep suspended"
    END = "end"  # it was being terminated
    LOSE = "lose"  # its VMM is gone, and nothing was saved


_S, _F = MicrovmState, Fate

FATES: Final[Mapping[tuple[MicrovmState, bool, bool], Fate]] = {
    # (state in the row, saved state complete, VMM runs)
    (_S.PENDING, False, False): _F.LAUNCH,
    (_S.PENDING, False, True): _F.LAUNCH,
    (_S.PENDING, True, False): _F.LAUNCH,
    (_S.PENDING, True, True): _F.LAUNCH,
    (_S.RUNNING, False, False): _F.LOSE,
    (_S.RUNNING, False, True): _F.ADOPT,
    (_S.RUNNING, True, False): _F.KEEP_SUSPENDED,
    (_S.RUNNING, True, True): _F.KEEP_SUSPENDED,
    (_S.SUSPENDING, False, False): _F.LOSE,
    (_S.SUSPENDING, False, True): _F.ADOPT,
    (_S.SUSPENDING, True, False): _F.KEEP_SUSPENDED,
    (_S.SUSPENDING, True, True): _F.KEEP_SUSPENDED,
    (_S.SUSPENDED, False, False): _F.LOSE,
    (_S.SUSPENDED, False, True): _F.ADOPT,
    (_S.SUSPENDED, True, False): _F.KEEP_SUSPENDED,
    (_S.SUSPENDED, True, True): _F.KEEP_SUSPENDED,
    (_S.TERMINATING, False, False): _F.END,
    (_S.TERMINATING, False, True): _F.END,
    (_S.TERMINATING, True, False): _F.END,
    (_S.TERMINATING, True, True): _F.END,
}


class Recovery:
    """What an earlier server left, looked at once, before anything is started.

    Args:
        leftovers: what of it is on the machine.
        live: the rows of all microVMs that have not ended.
    """

    def __init__(self, leftovers: Leftovers, live: list[Microvm]) -> None:
        self._leftovers = leftovers
        self._fates: dict[str, Fate] = {}
        for microvm in live:
            found = leftovers.find(microvm.id, was_suspended=microvm.state is MicrovmState.SUSPENDED)
            self._fates[microvm.id] = FATES[microvm.state, found.is_saved, found.runs]

    def fate(self, microvm_id: str) -> Fate:
        """Return what is to be done with a microVM."""
        return self._fates[microvm_id]

    def clear(self) -> None:
        """End every VMM that is not taken over, and remove files of microVMs that belong to nobody."""
        self._leftovers.clear(
            adopted=self._with(Fate.ADOPT), kept=self._with(Fate.KEEP_SUSPENDED), relaunched=self._with(Fate.LAUNCH)
        )

    def _with(self, fate: Fate) -> set[str]:
        return {microvm_id for microvm_id, decided in self._fates.items() if decided is fate}
