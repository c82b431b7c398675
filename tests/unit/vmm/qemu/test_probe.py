"""The tiny guest, run in the cage of a microVM; where no KVM is, the emulator shows that everything but KVM works."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emberbox.host import native
from emberbox.model.errors import VmmError
from emberbox.vmm.base import Cage
from emberbox.vmm.qemu import arguments, probe, spawn
from emberbox.vmm.qemu.probe import find_version, probe_kvm, run_tiny_guest

CAGE = Cage(1_900_000_123 if os.geteuid() == 0 else None, None)


@pytest.fixture
def kvm_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that can be opened in the place of /dev/kvm."""
    path = tmp_path / "kvm"
    path.write_bytes(b"")
    monkeypatch.setattr(spawn, "KVM", path)
    return path


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a script in QEMU's place, where the cage's user reaches it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)

        def write(script: str) -> None:
            path = Path(directory) / "qemu"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            monkeypatch.setattr(arguments, "BINARY", str(path))

        yield write


async def test_the_tiny_guest_runs_in_the_cage() -> None:
    engine = await run_tiny_guest(CAGE, native.memory_shim_path(), "tcg")
    assert (engine.vmm, engine.accelerator, engine.version) == ("QEMU", "tcg", await find_version())


@pytest.mark.parametrize(
    ("look", "seen"),
    [
        ("id -u", str(os.geteuid() if CAGE.uid is None else CAGE.uid)),
        ("grep Groups /proc/self/status", "Groups:"),
        ("grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        ("readlink /proc/self/fd/$EMBERBOX_KVM_FD", "/kvm"),
        ("echo $*", "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        ('echo "$*" | grep -o "accel kvm -cpu host"', "accel kvm -cpu host"),
        ('echo "$*" | grep -o "machine microvm"', "machine microvm"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives VMMs users of their own")
async def test_the_tiny_guest_is_run_as_a_microvm_is(
    kvm_device: Path, stand_in: Callable[[str], None], look: str, seen: str
) -> None:
    """User, groups, arguments and the open KVM are those of a VMM in service."""
    stand_in(f"({look}) >&2; exit 1")
    outcome = await probe_kvm(CAGE, native.memory_shim_path())
    assert outcome.engine is None
    assert outcome.problem.strip().endswith(seen)


@pytest.mark.parametrize(
    ("make", "words"),
    [(Path.unlink, "there is no"), (lambda path: (path.unlink(), path.mkdir()), "cannot be opened")],
)
async def test_without_the_device_it_says_what_to_do(kvm_device: Path, make: object, words: str) -> None:
    make(kvm_device)  # type: ignore[operator]
    outcome = await probe_kvm(CAGE, native.memory_shim_path())
    assert outcome.engine is None
    assert words in outcome.problem


async def test_what_qemu_says_is_told(kvm_device: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("echo failed to initialize kvm: Permission denied >&2; exit 1")
    outcome = await probe_kvm(CAGE, native.memory_shim_path())
    assert outcome.problem == "a tiny guest did not start: failed to initialize kvm: Permission denied"


async def test_a_guest_that_takes_too_much_of_the_processor_is_no_virtualisation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What counts is the processor's time: on a busy machine a sound guest may wait for long."""
    monkeypatch.setattr(probe, "PROBE_CPU_S", 1)
    monkeypatch.setattr(probe, "_CODE", b"\xeb\xfe")  # it jumps to itself
    with pytest.raises(VmmError, match="used 1 s of processor time"):
        await run_tiny_guest(CAGE, native.memory_shim_path(), "tcg")


async def test_a_guest_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(probe, "_CODE", b"\xfa\xf4")  # it halts with interrupts off
    with pytest.raises(VmmError, match="did not end within 1 s"):
        await run_tiny_guest(CAGE, native.memory_shim_path(), "tcg")
