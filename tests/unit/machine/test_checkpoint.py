"""Checkpoints as directories: what they share, what they keep, and that no other directory is needed for them."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from pathlib import Path

import pytest

from emberbox.host import disk
from emberbox.machine import checkpoint
from emberbox.machine.snapshot import (
    ImageSnapshot,
    SuspendedState,
    forget_suspended,
    is_suspended,
    load_image_snapshot,
    load_suspended,
)
from emberbox.vmm.base import MachineShape
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import memory, saving, states
from emberbox.vmm.paged.files import MemoryLayer, layers_of, runs_of_own
from emberbox.vmm.paged.memory import PAGE_BYTES
from emberbox.vmm.paged.saving import Mapping, Started
from emberbox.vmm.paged.states import LAYERS_MAX, PagedStates
from support.snapshots import image_snapshot, suspended_state

SHAPE = MachineShape(1, 1)
STATES = PagedStates()
ENGINE = Engine("none", "1.0", "tcg")
PAGES = 256


def pages(**content: int) -> bytes:
    """Return a memory in which some pages, such as p3=7, are filled with a byte."""
    memory = bytearray(PAGES * PAGE_BYTES)
    for page, byte in content.items():
        start = int(page[1:]) * PAGE_BYTES
        memory[start : start + PAGE_BYTES] = bytes([byte]) * PAGE_BYTES
    return bytes(memory)


def guest_memory(snapshot: ImageSnapshot) -> bytes:
    """Return what a guest that starts from a snapshot finds in its memory, as agent/memory_shim.c maps it."""
    memory = bytearray(snapshot.saved.path("memory").read_bytes())
    for layer in layers_of(snapshot.saved):
        content = layer.path.read_bytes()
        for first, count in layer.runs:
            where = slice(first * PAGE_BYTES, (first + count) * PAGE_BYTES)
            memory[where] = content[where]
    return bytes(memory)


@pytest.fixture
def image(tmp_path: Path) -> ImageSnapshot:
    directory = tmp_path / "image"
    directory.mkdir()
    for name in ("root.erofs", "disk", "devices"):
        (directory / name).write_bytes(name.encode())
    (directory / "memory").write_bytes(pages(p0=1, p1=1, p2=1))
    snapshot = image_snapshot(directory, SHAPE)
    snapshot.publish()
    return snapshot


def suspend(directory: Path, **content: int) -> SuspendedState:
    directory.mkdir()
    (directory / "disk").write_bytes(b"changed")
    (directory / "devices.saved").write_bytes(b"later")
    (directory / "memory.layer").write_bytes(pages(**content))
    state = suspended_state(directory, tuple((int(page[1:]), 1) for page in content))
    state.publish()
    return state


def checkpoint_of(base: ImageSnapshot, state: SuspendedState, directory: Path) -> ImageSnapshot:
    return checkpoint.publish(STATES, checkpoint.copy_suspended(STATES, base, state, directory))


def test_a_checkpoint_of_a_suspended_microvm_holds_all_it_had(image: ImageSnapshot, tmp_path: Path) -> None:
    state = suspend(tmp_path / "microvm", p1=7, p9=9)
    checkpoint_of(image, state, tmp_path / "checkpoint")
    loaded = load_image_snapshot(tmp_path / "checkpoint")
    assert guest_memory(loaded) == pages(p0=1, p1=7, p2=1, p9=9)
    assert (loaded.saved.path("disk").read_bytes(), loaded.saved.path("devices").read_bytes()) == (b"changed", b"later")


def test_a_checkpoint_needs_no_other_directory(image: ImageSnapshot, tmp_path: Path) -> None:
    made = checkpoint_of(image, suspend(tmp_path / "microvm", p1=7), tmp_path / "checkpoint")
    linked = made.link_to(tmp_path / "fork")
    for directory in (image.directory, tmp_path / "microvm", made.directory):
        shutil.rmtree(directory)
    assert guest_memory(load_image_snapshot(linked.directory)) == pages(p0=1, p1=7, p2=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's page map tells nothing of frames")
@pytest.mark.parametrize("held", [saving.HELD_PAGES_MAX, 0])
def test_what_a_process_has_changed_is_captured_and_nothing_else(
    image: ImageSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(saving, "HELD_PAGES_MAX", held)
    state = suspend(tmp_path / "microvm", p1=7)
    (tmp_path / "microvm" / "devices").write_bytes(b"now")
    with image.saved.path("memory").open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    for page, byte in ((1, 7), (2, 8), (2, 1), (40, 9), (200, 6)):  # page 2 is in the end as it was
        mapping[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes([byte]) * PAGE_BYTES
    checkpoint.link_root(image, tmp_path / "checkpoint")
    draft = saving.begin_draft(Started(SHAPE, image.saved, state.saved), tmp_path / "checkpoint")
    draft.capture(tmp_path / "microvm", Mapping(os.getpid(), address), ENGINE)
    mapping[40 * PAGE_BYTES] = 1  # it runs on
    made = checkpoint.publish(STATES, ImageSnapshot(SHAPE, draft.store()))
    assert guest_memory(made) == pages(p0=1, p1=7, p2=1, p40=9, p200=6)
    assert layers_of(made.saved)[-1].runs == ((40, 1), (200, 1))
    assert made.saved.path("devices").read_bytes() == b"now"


def test_a_checkpoint_shares_memory_with_its_image(image: ImageSnapshot, tmp_path: Path) -> None:
    made = checkpoint_of(image, suspend(tmp_path / "microvm", p1=7), tmp_path / "checkpoint")
    assert made.saved.path("memory").samefile(image.saved.path("memory"))
    assert made.root.samefile(image.root)
    assert layers_of(made.saved)[0].path.samefile(tmp_path / "microvm" / "memory.layer")


def test_a_later_suspend_does_not_change_a_checkpoint(image: ImageSnapshot, tmp_path: Path) -> None:
    state = suspend(tmp_path / "microvm", p1=7)
    made = checkpoint_of(image, state, tmp_path / "checkpoint")
    layer = tmp_path / "microvm" / "memory.layer"
    disk.unshare(layer)
    memory.write_pages([(1, b"\x08" * PAGE_BYTES)], layer, PAGES * PAGE_BYTES)
    assert guest_memory(made) == pages(p0=1, p1=7, p2=1)
    assert layer.read_bytes() == pages(p1=8)


def test_a_chain_of_checkpoints_stays_short_and_true(image: ImageSnapshot, tmp_path: Path) -> None:
    """Each checkpoint is taken of a microVM that was started from the one before."""
    base = image
    for number in range(1, 3 * LAYERS_MAX):
        state = suspend(tmp_path / f"microvm{number}", p5=number, **{f"p{number + 10}": number})
        base = checkpoint_of(base, state, tmp_path / f"checkpoint{number}")
        assert len(layers_of(base.saved)) <= LAYERS_MAX
    last = 3 * LAYERS_MAX - 1
    expected = {f"p{number + 10}": number for number in range(1, last + 1)}
    assert guest_memory(load_image_snapshot(base.directory)) == pages(p0=1, p1=1, p2=1, p5=last, **expected)


def test_layers_of_too_many_pieces_become_one_with_the_gaps_filled(
    image: ImageSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "RUNS_MAX", 3)
    first = suspend(tmp_path / "first", p1=7, p20=2)
    second = suspend(tmp_path / "second", p3=3, p60=6, p100=1)
    made = checkpoint_of(checkpoint_of(image, first, tmp_path / "one"), second, tmp_path / "two")
    assert len(layers_of(made.saved)) == 1
    assert len(layers_of(made.saved)[0].runs) <= 3
    assert guest_memory(made) == pages(p0=1, p1=7, p2=1, p3=3, p20=2, p60=6, p100=1)


def test_a_rollback_swaps_the_directory_for_the_checkpoint(image: ImageSnapshot, tmp_path: Path) -> None:
    microvm = tmp_path / "microvm"
    made = checkpoint_of(image, suspend(microvm, p1=7), tmp_path / "checkpoint")
    (microvm / "disk").write_bytes(b"regretted")
    checkpoint.prepare_rollback(STATES, made, microvm)
    assert (microvm / "disk").read_bytes() == b"regretted"
    checkpoint.roll_back(microvm)
    assert (microvm / "disk").read_bytes() == b"changed"
    assert runs_of_own(load_suspended(microvm).saved) == ()
    assert guest_memory(load_image_snapshot(microvm / "base")) == pages(p0=1, p1=7, p2=1)
    assert {path.name for path in tmp_path.iterdir()} == {"image", "microvm", "checkpoint"}


@pytest.mark.parametrize("at", ["prepared", "VMM ended", "moved away", "moved in"])
def test_a_rollback_that_was_interrupted_is_finished_or_undone(image: ImageSnapshot, tmp_path: Path, at: str) -> None:
    microvm, old, prepared = (tmp_path / name for name in ("microvm", "microvm.old", "microvm.rollback"))
    made = checkpoint_of(image, suspend(microvm, p1=7), tmp_path / "checkpoint")
    (microvm / "disk").write_bytes(b"regretted")
    forget_suspended(microvm)  # it runs
    checkpoint.prepare_rollback(STATES, made, microvm)
    if at.startswith("moved"):
        microvm.rename(old)
    if at == "moved in":
        prepared.rename(microvm)
    checkpoint.settle_rollback(microvm, runs=at == "prepared")
    assert (microvm / "disk").read_bytes() == (b"regretted" if at == "prepared" else b"changed")
    assert is_suspended(microvm) == (at != "prepared")
    assert {path.name for path in tmp_path.iterdir()} == {"image", "microvm", "checkpoint"}


def test_half_a_rollback_is_removed(image: ImageSnapshot, tmp_path: Path) -> None:
    microvm = tmp_path / "microvm"
    suspend(microvm, p1=7)
    (tmp_path / "microvm.rollback").mkdir()
    checkpoint.settle_rollback(microvm, runs=False)
    assert (microvm / "disk").read_bytes() == b"changed"
    assert not (tmp_path / "microvm.rollback").exists()
    assert image.directory.exists()


def test_a_layer_of_a_checkpoint_is_loaded_as_it_was(image: ImageSnapshot, tmp_path: Path) -> None:
    made = checkpoint_of(image, suspend(tmp_path / "microvm", p1=7), tmp_path / "checkpoint")
    assert load_image_snapshot(made.directory) == made
    assert layers_of(made.saved) == (MemoryLayer(made.directory / "memory.1", ((1, 1),)),)
