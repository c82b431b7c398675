"""Snapshots of microVMs at one instant, without ending them: where forks start and what a rollback goes back to.

A checkpoint is an image snapshot like a build's. Only what the microVM changed is written; everything below is shared
with its image as hard links, and what that is the engine knows (`emberbox.vmm.base.Draft`). While the microVM stands
still nothing is waited for that can wait:

    Guest.draft ─► Guest.capture ─► Checkpoint.store  (a running microVM)  ─┐
    copy_suspended                                    (a suspended one)    ─┴─► publish

A rollback makes the microVM's whole directory anew beside the old one, and then swaps the two: whatever happens in
between, `settle_rollback` finds one of them complete.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from emberbox.host import disk
from emberbox.machine.snapshot import ImageSnapshot, SuspendedState, is_suspended
from emberbox.vmm.base import Draft, MachineShape, SavedStates


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A snapshot that is made of a running microVM."""

    shape: MachineShape
    draft: Draft

    async def store(self) -> ImageSnapshot:
        """Write what was captured; the microVM may run.

        Raises:
            OSError: the disk is full.
        """
        return ImageSnapshot(self.shape, await self.draft.store())


def link_root(base: ImageSnapshot, directory: Path) -> None:
    """Make the directory of a checkpoint, with the root file system of what the microVM was started from.

    Raises:
        OSError: it exists, or the file system cannot do it.
    """
    directory.mkdir(parents=True)
    os.link(base.root, directory / base.root.name)


def copy_suspended(
    states: SavedStates, base: ImageSnapshot, state: SuspendedState, directory: Path
) -> ImageSnapshot:  # fmt: skip
    """Make a checkpoint of a suspended microVM, which is still to be published.

    Args:
        states: the engine's.
        base: what the microVM was started from.
        state: what it has saved.
        directory: a new one, on the same file system.

    Raises:
        OSError: the disk is full.
    """
    link_root(base, directory)
    return ImageSnapshot(base.shape, states.combine(base.saved, state.saved, directory))


def publish(states: SavedStates, draft: ImageSnapshot) -> ImageSnapshot:
    """Bound what starting from a draft costs, and make it a snapshot that nobody changes any more.

    Raises:
        OSError: the disk is full.
    """
    snapshot = replace(draft, saved=states.compact(draft.saved))
    snapshot.publish()
    return snapshot


def prepare_rollback(states: SavedStates, snapshot: ImageSnapshot, microvm: Path) -> None:
    """Make, beside a microVM's directory, one in which it is suspended as it was at a checkpoint.

    Raises:
        OSError: the disk is full; nothing is left.
    """
    directory = _prepared(microvm)
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir()
        base = snapshot.link_to(directory / "base")
        SuspendedState(states.rewind(base.saved, directory)).publish()
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
