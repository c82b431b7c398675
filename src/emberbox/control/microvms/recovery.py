"""What becomes of each microVM when a server starts: decided from its row, its files and its VMM.

A killed server leaves rows that say what was under way. Two facts on the machine say how far it got: whether
`suspended.json` is there (then the saved state is the truth, and a VMM beside it has not run since), and whether the
VMM runs that was started last (then it is the microVM, running, paused or frozen). docs/crash-safety.md has the same
table in words.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from emberbox.host.leftovers import end_leftovers
from emberbox.machine.checkpoint import settle_rollback
from emberbox.machine.snapshot import is_suspended, take_back_resume
from emberbox.machine.survivors import Survivor, find_survivor
from emberbox.model.records import Microvm
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)


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
        home: the state directory.
        live: the rows of all microVMs that have not ended.
    """

    def __init__(self, home: Path, live: list[Microvm]) -> None:
        self._home = home
        self._fates: dict[str, Fate] = {}
        self.survivors: dict[str, Survivor] = {}
        """The VMMs that are taken over, by the microVM's id."""
        for microvm in live:
            self._decide(microvm)

    def _decide(self, microvm: Microvm) -> None:
        directory = self._home / "microvms" / microvm.id
        survivor = find_survivor(directory)
        settle_rollback(directory, runs=survivor is not None)
        if microvm.state is MicrovmState.SUSPENDED and survivor is None:
            take_back_resume(directory)
        fate = FATES[microvm.state, is_suspended(directory), survivor is not None]
        self._fates[microvm.id] = fate
        if fate is Fate.ADOPT and survivor is not None:
            self.survivors[microvm.id] = survivor

    def fate(self, microvm_id: str) -> Fate:
        """Return what is to be done with a microVM."""
        return self._fates[microvm_id]

    def slots(self) -> set[int]:
        """Return the numbers of the network slots that are still used."""
        return {survivor.slot for survivor in self.survivors.values() if survivor.slot is not None}

    def clear(self) -> None:
        """End every VMM that is not taken over, and remove files of microVMs that belong to nobody."""
        end_leftovers(self._home, {survivor.process.pid for survivor in self.survivors.values()})
        for directory in (self._home / "microvms").iterdir():
            fate = self._fates.get(directory.name, Fate.END)
            if fate in (Fate.END, Fate.LOSE):
                shutil.rmtree(directory, ignore_errors=True)
            elif fate is Fate.LAUNCH:
                _empty(directory)


def _empty(directory: Path) -> None:
    """Remove what a launch has made; a fork is launched again from its base."""
    for path in directory.iterdir():
        if path.name != "base" and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "base":
            path.unlink()
