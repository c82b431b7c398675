"""Saving a guest whose memory is a private mapping, in its VMM's process, of the files that it was started from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emberbox.host import disk
from emberbox.vmm.base import DISK, MachineShape, Publish, Saved, Written
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import memory
from emberbox.vmm.paged.files import (
    DEVICES,
    MEMORY,
    OWN_DEVICES,
    OWN_MEMORY,
    MemoryLayer,
    layers_of,
    make_base,
    make_own,
    runs_of_own,
    stack_of,
)
from emberbox.vmm.paged.memory_stack import open_stack
from emberbox.vmm.paged.pagemap import find_changed_runs, find_touched_runs

RUNS_MAX = 8_000
"""Of a base's layers together: with the microVM's own layer on top they must stay below vm.max_map_count."""

HELD_PAGES_MAX = 1 << 15
"""Up to 128 MiB of changed pages are held in memory and written when the guest runs on; more goes to the file."""

_BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Started:
    """What a guest was started from: the files under its memory."""

    shape: MachineShape
    base: Saved
    own: Saved | None

    @property
    def memory_bytes(self) -> int:
        """The size of its memory."""
        return self.shape.mem_size_mib * _BYTES_PER_MIB


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where the memory of a guest that stands still is to be read.

    Args:
        pid: the VMM's process.
        address: where the memory begins in it.
    """

    pid: int
    address: int


def changed_bytes(started: Started, where: Mapping) -> int:
    """Return how much memory a guest has changed since its start; it may run.

    Raises:
        OSError: the VMM has ended.
    """
    return memory.count_pages(find_changed_runs(where.pid, where.address, started.memory_bytes)) * memory.PAGE_BYTES


def save_changes(directory: Path, started: Started, where: Mapping, engine: Engine, publish: Publish) -> Written:
    """Write what a guest has changed into its directory, whose `devices` were just written.

    Only pages that are not as they were at its start are written (docs/decisions/0016), into the layer that an earlier
    suspend left: its pages still count.

    Raises:
        OSError: the disk is full, or the VMM has ended.
    """
    layer, earlier, length = directory / OWN_MEMORY, runs_of_own(started.own), started.memory_bytes
    disk.unshare(layer)
    below = [(each.path, each.runs) for each in stack_of(started.base, started.own)]
    with open_stack(started.base.path(MEMORY), below) as before:
        changed = memory.read_pages(where.pid, where.address, find_touched_runs(where.pid, where.address, length))
        written = memory.write_pages(before.differing(changed), layer, length)
    runs = tuple(memory.merge_runs([*earlier, *written]))
    filling = memory.subtract_runs(runs, [*earlier, *written])  # the layer lacks what is in gaps that were filled
    memory.write_pages(memory.read_pages(where.pid, where.address, filling), layer, length)
    (directory / DEVICES).replace(directory / OWN_DEVICES)
    saved = make_own(directory, runs, engine)
    publish(saved)
    return Written(saved, memory.count_pages(written) * memory.PAGE_BYTES)


def forget_changes(directory: Path, started: Started) -> None:
    """Remove a layer that does not count. One that an earlier suspend left is mapped, and lies under what comes."""
    if not runs_of_own(started.own):
        (directory / OWN_MEMORY).unlink(missing_ok=True)


def save_boot(directory: Path, engine: Engine, publish: Publish) -> Written:
    """Describe what a guest has that was booted into a memory file of its own and stands still.

    Raises:
        OSError: the file cannot be read or written.
    """
    memory.punch_zero_pages(directory / MEMORY)
    saved = make_base(directory, (), engine)
    publish(saved)
    return Written(saved, disk.stored_bytes(directory / MEMORY))


class PagedDraft:
    """A base that is made of a guest; see `emberbox.vmm.base.Draft`. Made by `begin_draft`."""

    def __init__(self, saved: Saved, length: int) -> None:
        self._saved = saved
        self._length = length
        self._pages: tuple[memory.Pages, ...] = ()

    def capture(self, microvm: Path, where: Mapping, engine: Engine) -> None:
        """Take what the guest has changed; nothing is waited for to be stored.

        Args:
            microvm: the VM's directory, with its device state just written.
            where: its memory.
            engine: what it runs with.

        Raises:
            OSError: the disk is full, or the VMM has ended.
        """
        self._saved = make_base(self._saved.directory, layers_of(self._saved), engine)
        (microvm / DEVICES).replace(self._saved.path(DEVICES))
        disk.copy_sparse(microvm / DISK, self._saved.path(DISK))
        touched = find_touched_runs(where.pid, where.address, self._length)
        pages = memory.read_pages(where.pid, where.address, touched)
        if memory.count_pages(touched) > HELD_PAGES_MAX:
            self._store(pages)
        else:
            self._pages = tuple(pages)

    def store(self) -> Saved:
        """Write what is held in memory, and return all that was captured.

        Raises:
            OSError: the disk is full.
        """
        pages, self._pages = self._pages, ()
        if pages:
            self._store(pages)
        return self._saved

    def _store(self, pages: Iterable[memory.Pages]) -> None:
        layers = layers_of(self._saved)
        target = next_layer(self._saved.directory, layers)
        below = [(layer.path, layer.runs) for layer in layers]
        with open_stack(self._saved.path(MEMORY), below) as before:
            written = memory.write_pages(before.differing(pages), target, self._length)
            runs = memory.merge_runs(written, RUNS_MAX)
            filling = memory.subtract_runs(runs, written)
            memory.write_pages(before.pages(filling), target, self._length)
        layers = (*layers, MemoryLayer(target, tuple(runs)))
        self._saved = make_base(self._saved.directory, layers, self._saved.engine)


def begin_draft(started: Started, directory: Path) -> PagedDraft:
    """Make the draft of a base that shares all that a guest has below its present changes.

    Raises:
        OSError: the file system cannot do it.
    """
    return PagedDraft(link_below(started.base, started.own, directory), started.memory_bytes)


def link_below(base: Saved, own: Saved | None, directory: Path) -> Saved:
    """Give the memory of a base, and what a VM has saved over it, a second name in another directory.

    Raises:
        OSError: the file system cannot do it.
    """
    os.link(base.path(MEMORY), directory / MEMORY)
    layers: tuple[MemoryLayer, ...] = ()
    for layer in stack_of(base, own):
        target = next_layer(directory, layers)
        os.link(layer.path, target)
        layers = (*layers, MemoryLayer(target, layer.runs))
    return make_base(directory, layers, base.engine if own is None else own.engine)


def next_layer(directory: Path, layers: tuple[MemoryLayer, ...]) -> Path:
    """Return where the layer over some others goes."""
    return directory / f"{MEMORY}.{len(layers) + 1}"
