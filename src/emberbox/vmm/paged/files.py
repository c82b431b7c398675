"""The files of paged state, and what its details say of them.

a base                                    a VM's own
disk       writable disk                  disk             its writable disk
devices    device state                   devices.saved    device state at the suspend
memory     memory                         memory.layer     the pages it changed, a sparse file
memory.1 … pages over it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emberbox.vmm.base import DISK, Saved
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged.memory import Run

DEVICES, MEMORY = "devices", "memory"
OWN_DEVICES, OWN_MEMORY = "devices.saved", "memory.layer"

Runs = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class MemoryLayer:
    """Pages that lie over the base memory.

    Args:
        path: a sparse file as large as the memory, each page at its own offset.
        runs: (first page, count) of the pages that count.
    """

    path: Path
    runs: Runs


def make_base(directory: Path, layers: Sequence[MemoryLayer], engine: Engine | None) -> Saved:
    """Describe a base whose files are in a directory."""
    names = (DISK, DEVICES, MEMORY, *(layer.path.name for layer in layers))
    told = [{"file": layer.path.name, "runs": _to_json(layer.runs)} for layer in layers]
    return Saved(directory, names, {"layers": told}, engine)


def make_own(directory: Path, runs: Runs, engine: Engine | None) -> Saved:
    """Describe what a VM has saved in its directory."""
    names = (OWN_DEVICES, DISK, *((OWN_MEMORY,) if runs else ()))
    return Saved(directory, names, {"runs": _to_json(runs)}, engine)


def layers_of(base: Saved) -> tuple[MemoryLayer, ...]:
    """Return what lies over the memory of a base, lowest first."""
    told = base.details.get("layers", ())
    return tuple(MemoryLayer(base.path(layer["file"]), _runs(layer["runs"])) for layer in told)


def runs_of_own(own: Saved | None) -> Runs:
    """Return the pages that a VM has saved; none before its first suspend."""
    return () if own is None else _runs(own.details.get("runs", ()))


def stack_of(base: Saved, own: Saved | None) -> tuple[MemoryLayer, ...]:
    """Return all that lies over the memory of a base for one VM, lowest first."""
    runs = runs_of_own(own)
    return (*layers_of(base), *((MemoryLayer(own.path(OWN_MEMORY), runs),) if own is not None and runs else ()))


def _runs(told: Sequence[Sequence[int]]) -> Runs:
    return tuple((first, count) for first, count in told)


def _to_json(runs: Runs) -> list[list[int]]:
    return [list(run) for run in runs]
