"""Notes about running VMMs, by which the next server takes them over when this one is killed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emberbox.process.adoption import AdoptedProcess, find_process, read_note
from emberbox.vmm.base import Vm

NOTE = "vmm.json"


@dataclass(frozen=True, slots=True)
class Survivor:
    """A VMM that goes on without a server.

    Args:
        process: it.
        uid: the user it runs as, None where that is the server's.
        slot: its network's place in the tap network, None for a user network.
    """

    process: AdoptedProcess
    uid: int | None
    slot: int | None


def note_vmm(directory: Path, vm: Vm, uid: int | None, slot: int | None) -> None:
    """Note a VMM whose guest is about to run: from now on it can be taken over."""
    vm.write_note(directory / NOTE, uid=uid, slot=slot)


def find_survivor(directory: Path) -> Survivor | None:
    """Return the VMM of a microVM that an earlier server started, if it runs and its guest has run."""
    note = read_note(directory / NOTE)
    process = find_process(directory / NOTE, directory / "vmm.log")
    if note is None or process is None:
        return None
    return Survivor(process, note.more.get("uid"), note.more.get("slot"))
