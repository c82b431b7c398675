"""Snapshots of microVMs at one instant, without ending them: where forks start and what a rollback goes back to.

A checkpoint is an image snapshot like a build's. Only what the microVM changed is written; everything below is shared
with its image as hard links. While the microVM stands still (`capture`) nothing is waited for that can wait: `begin`
comes before, `publish` after it.

    begin ─► capture (a running microVM) ─► store | take_over (a suspended one) ─► publish

A rollback makes the microVM's whole directory anew beside the old one, and then swaps the two: whatever happens in
between, `settle_rollback` finds one of them complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from emberbox.host import disk, memory
from emberbox.host.memory_stack import open_stack
from emberbox.host.pagemap import find_touched_runs
from emberbox.machine.snapshot import ImageSnapshot, SuspendedState, is_suspended
from emberbox.vmm.base import MemoryLayer

LAYERS_MAX = 8
RUNS_MAX = 8_000
"""Of a snapshot's layers together: with the microVM's own layer on top they must stay below vm.max_map_count."""

HELD_PAGES_MAX = 1 << 15
"""Up to 128 MiB of changed pages are held in memory and written when the microVM runs on; more goes to the file."""

_BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Capture:
    """A draft, and the pages that belong over it and are still to be written."""

    draft: ImageSnapshot
    pages: tuple[memory.Pages, ...]


def begin(base: ImageSnapshot, saved: Iterable[MemoryLayer], directory: Path) -> ImageSnapshot:
    """Return the draft of a snapshot that shares all that a microVM has below its present changes.

    Args:
        base: what the microVM was started from.
        saved: what an earlier suspend saved of it.
        directory: a new one, on the same file system.

    Raises:
        OSError: the file system cannot do it.
    """
    directory.mkdir(parents=True)
    os.link(base.root, directory / base.root.name)
    os.link(base.memory, directory / base.memory.name)
    draft = ImageSnapshot(directory, base.shape)
    for layer in (*base.layers, *saved):
        target = _next_layer(draft)
        os.link(layer.path, target)
        draft = _with_layer(draft, target, layer.runs)
    return draft


def capture(draft: ImageSnapshot, pid: int, address: int, microvm: Path) -> Capture:
    """Take what a stopped VMM has changed; nothing is waited for to be stored.

    Args:
        draft: from `begin`.
        pid: the VMM.
        address: where the guest's memory is in it.
        microvm: the microVM's directory, with its device state just written.

    Raises:
        OSError: the disk is full, or the VMM has ended.
    """
    length = draft.shape.mem_size_mib * _BYTES_PER_MIB
    (microvm / "devices").replace(draft.devices)
    disk.copy_sparse(microvm / "disk", draft.disk)
    touched = find_touched_runs(pid, address, length)
    pages = memory.read_pages(pid, address, touched)
    if memory.count_pages(touched) > HELD_PAGES_MAX:
        return Capture(_store(draft, pages), ())
    return Capture(draft, tuple(pages))


def store(captured: Capture) -> ImageSnapshot:
    """Write what was captured into its draft.

    Raises:
        OSError: the disk is full.
    """
    return _store(captured.draft, captured.pages) if captured.pages else captured.draft


def _store(draft: ImageSnapshot, pages: Iterable[memory.Pages]) -> ImageSnapshot:
    target, length = _next_layer(draft), draft.shape.mem_size_mib * _BYTES_PER_MIB
    with open_stack(draft.memory, [(layer.path, layer.runs) for layer in draft.layers]) as before:
        written = memory.write_pages(before.differing(pages), target, length)
        runs = memory.merge_runs(written, RUNS_MAX)
        filling = memory.subtract_runs(runs, written)
        memory.write_pages(before.pages(filling), target, length)
    return _with_layer(draft, target, tuple(runs))


def take_over(draft: ImageSnapshot, state: SuspendedState) -> ImageSnapshot:
    """Complete a draft with what a suspended microVM has saved.

    Raises:
        OSError: the disk is full.
    """
    os.link(state.devices, draft.devices)
    disk.copy_sparse(state.directory / "disk", draft.disk)
    return replace(draft, engine=state.engine)


def publish(draft: ImageSnapshot) -> ImageSnapshot:
    """Bound what starting from a draft costs, and make it a snapshot that nobody changes any more.

    Raises:
        OSError: the disk is full.
    """
    many = len(draft.layers) > LAYERS_MAX or sum(len(layer.runs) for layer in draft.layers) > RUNS_MAX
    snapshot = _with_one_layer(draft) if many else draft
    snapshot.publish()
    return snapshot


def _with_one_layer(draft: ImageSnapshot) -> ImageSnapshot:
    scratch = draft.directory / "memory.merged"
    runs = tuple(memory.merge_runs((run for layer in draft.layers for run in layer.runs), RUNS_MAX))
    memory.copy_runs(draft.memory, runs, scratch)  # for the gaps that were filled
    for layer in draft.layers:
        memory.copy_runs(layer.path, layer.runs, scratch)
        layer.path.unlink()
    merged = replace(draft, layers=())
    target = _next_layer(merged)
    scratch.replace(target)
    return _with_layer(merged, target, runs)


def prepare_rollback(snapshot: ImageSnapshot, microvm: Path) -> None:
    """Make, beside a microVM's directory, one in which it is suspended as it was at a checkpoint.

    Raises:
        OSError: the disk is full; nothing is left.
    """
    directory = _prepared(microvm)
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir()
        base = snapshot.link_to(directory / "base")
        disk.copy_sparse(base.disk, directory / "disk")
        (directory / "disk").chmod(0o600)
        state = SuspendedState(directory, (), engine=base.engine)
        os.link(base.devices, state.devices)
        state.publish()
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def roll_back(microvm: Path) -> None:
    """Put what `prepare_rollback` made in the place of a microVM's directory; its VMM must have ended."""
    old = _replaced(microvm)
    microvm.rename(old)
    _prepared(microvm).rename(microvm)
    disk.sync(microvm.parent)
    shutil.rmtree(old, ignore_errors=True)


def settle_rollback(microvm: Path, *, runs: bool) -> None:
    """Finish or undo a rollback that a killed server left; afterwards the microVM's directory is the only one.

    Args:
        microvm: its directory, which may be missing.
        runs: its VMM runs, so the rollback had not got far and is undone.
    """
    prepared, old = _prepared(microvm), _replaced(microvm)
    if is_suspended(prepared) and not runs and not is_suspended(microvm):
        if microvm.exists():
            microvm.rename(old)
        prepared.rename(microvm)
    for directory in (prepared, old):
        shutil.rmtree(directory, ignore_errors=True)


def remove_microvm(microvm: Path) -> None:
    """Remove a microVM's directory, and what a rollback may have left beside it; what cannot be removed stays."""
    for directory in (microvm, _prepared(microvm), _replaced(microvm)):
        shutil.rmtree(directory, ignore_errors=True)


def _prepared(microvm: Path) -> Path:
    return microvm.with_name(f"{microvm.name}.rollback")


def _replaced(microvm: Path) -> Path:
    return microvm.with_name(f"{microvm.name}.old")


def _next_layer(draft: ImageSnapshot) -> Path:
    return draft.directory / f"memory.{len(draft.layers) + 1}"


def _with_layer(draft: ImageSnapshot, path: Path, runs: tuple[memory.Run, ...]) -> ImageSnapshot:
    return replace(draft, layers=(*draft.layers, MemoryLayer(path, runs)))
