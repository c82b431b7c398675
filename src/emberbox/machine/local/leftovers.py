"""What a server that was killed left on this machine, looked at once, before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from emberbox.host.cgroups import sweep
from emberbox.host.leftovers import end_leftovers
from emberbox.machine.base import Facts
from emberbox.machine.checkpoint import settle_rollback
from emberbox.machine.local.places import Places
from emberbox.machine.snapshot import is_suspended, take_back_resume
from emberbox.machine.survivors import Survivor, find_survivor


class LocalLeftovers:
    """It, as `base.Leftovers`.

    Attributes:
        survivors: after `clear`, the VMMs that are taken over, by the microVM's id; before that, all that were found.

    Args:
        home: the state directory.
        places: where each microVM is.
    """

    def __init__(self, home: Path, places: Places) -> None:
        self._home = home
        self._places = places
        self.survivors: dict[str, Survivor] = {}

    def find(self, microvm_id: str, *, was_suspended: bool) -> Facts:
        """See `base.Leftovers`."""
        directory = self._places.directory(microvm_id)
        survivor = find_survivor(directory)
        settle_rollback(directory, runs=survivor is not None)
        if survivor is not None:
            self.survivors[microvm_id] = survivor
        elif was_suspended:
            take_back_resume(directory)
        return Facts(is_suspended(directory), survivor is not None)

    def clear(self, *, adopted: Iterable[str], kept: Iterable[str], relaunched: Iterable[str]) -> None:
        """See `base.Leftovers`."""
        goes_on, stays, starts = set(adopted), set(kept), set(relaunched)
        self.survivors = {name: survivor for name, survivor in self.survivors.items() if name in goes_on}
        end_leftovers(self._home, {survivor.process.pid for survivor in self.survivors.values()})
        sweep(self._home)
        for directory in (self._home / "microvms").iterdir():
            if directory.name in starts:
                _empty(directory)
            elif directory.name not in goes_on | stays:
                shutil.rmtree(directory, ignore_errors=True)

    def slots(self) -> set[int]:
        """Return the numbers of the network slots that are still used."""
        return {survivor.slot for survivor in self.survivors.values() if survivor.slot is not None}


def _empty(directory: Path) -> None:
    """Remove what a launch has made; a fork is launched again from its base."""
    for path in directory.iterdir():
        if path.name != "base" and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "base":
            path.unlink()
