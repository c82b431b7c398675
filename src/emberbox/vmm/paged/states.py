"""What is done with paged state while no VM runs."""

from __future__ import annotations

import os
from pathlib import Path

from emberbox.host import disk
from emberbox.vmm.base import DISK, Saved
from emberbox.vmm.paged import memory
from emberbox.vmm.paged.files import DEVICES, MEMORY, OWN_DEVICES, MemoryLayer, layers_of, make_base, make_own
from emberbox.vmm.paged.saving import RUNS_MAX, link_below, next_layer

LAYERS_MAX = 8


class PagedStates:
    """See `emberbox.vmm.base.SavedStates`."""

    def lay_out(self, base: Saved, directory: Path) -> None:
        """Copy the disk, holes left out."""
        disk.copy_sparse(base.path(DISK), directory / DISK)
        (directory / DISK).chmod(0o600)

    def rewind(self, base: Saved, directory: Path) -> Saved:
        """A VM that has changed no page yet."""
        self.lay_out(base, directory)
        os.link(base.path(DEVICES), directory / OWN_DEVICES)
        return make_own(directory, (), base.engine)

    def combine(self, base: Saved, own: Saved, directory: Path) -> Saved:
        """The VM's pages are one more layer; only its disk is copied, as it goes on being written."""
        made = link_below(base, own, directory)
        os.link(own.path(OWN_DEVICES), made.path(DEVICES))
        disk.copy_sparse(own.path(DISK), made.path(DISK))
        return made

    def compact(self, base: Saved) -> Saved:
        """Make one layer of many, or of many pieces: a VMM maps each piece at every start."""
        layers = layers_of(base)
        if len(layers) <= LAYERS_MAX and sum(len(layer.runs) for layer in layers) <= RUNS_MAX:
            return base
        scratch = base.path("memory.merged")
        runs = tuple(memory.merge_runs((run for layer in layers for run in layer.runs), RUNS_MAX))
        memory.copy_runs(base.path(MEMORY), runs, scratch)  # for the gaps that were filled
        for layer in layers:
            memory.copy_runs(layer.path, layer.runs, scratch)
            layer.path.unlink()
        target = next_layer(base.directory, ())
        scratch.replace(target)
        return make_base(base.directory, (MemoryLayer(target, runs),), base.engine)
