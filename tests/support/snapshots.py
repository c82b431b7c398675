"""Saved state of an engine with pages, described as such engines do."""

from __future__ import annotations

from pathlib import Path

from emberbox.machine.snapshot import ImageSnapshot, SuspendedState
from emberbox.vmm.base import MachineShape
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged.files import Runs, make_base, make_own


def image_snapshot(directory: Path, shape: MachineShape, engine: Engine | None = None) -> ImageSnapshot:
    """Return the snapshot whose files are in a directory: a root file system, disk, memory and devices."""
    return ImageSnapshot(shape, make_base(directory, (), engine))


def suspended_state(directory: Path, runs: Runs, engine: Engine | None = None) -> SuspendedState:
    """Return the suspended state whose files are in a directory; `runs` are the pages of its layer."""
    return SuspendedState(make_own(directory, runs, engine))
