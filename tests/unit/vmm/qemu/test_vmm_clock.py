"""Moving on the clocks in saved device state."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path

import pytest

from emberbox import process
from emberbox.host.sockets import listen
from emberbox.model.errors import VmmError
from emberbox.vmm.qemu.clock import advance_clock, find_accelerator
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.state import save_devices

HEADER, END = b"QEVM\0\0\0\x03", b"\x00"
OTHER = b"\x04\0\0\0\x01\x03cpu" + struct.pack(">II", 0, 12) + b"\x05timer\x08kvmclock" + b"\x7e\0\0\0\x01"
"""A device whose fields happen to hold the names of clocks."""


def section(name: bytes, fields: bytes, version: int, instance: int = 0, footer: bytes = b"\x7e\0\0\0\x03") -> bytes:
    head = b"\x04\0\0\0\x03" + bytes((len(name),)) + name + struct.pack(">II", instance, version)
    return head + fields + footer


def timer(version: int = 2, **more: bytes) -> bytes:
    return section(b"timer", struct.pack(">qqq", 1000, 7, 50), version, **more)


RELIABLE = b"\x05\x1akvmclock/clock_is_reliable" + struct.pack(">I", 1) + b"\x01"


def kvmclock(clock_ns: int = 12_345_678_901, version: int = 1, reliable: bytes = RELIABLE) -> bytes:
    return section(b"kvmclock", struct.pack(">Q", clock_ns) + reliable, version)


def test_an_emulated_guests_ticks_and_virtual_time_move_on_together() -> None:
    state = HEADER + OTHER + timer() + END
    moved = advance_clock(state, 2.0, "tcg", 3_000_000)
    start = state.index(timer()) + len(b"\x04\0\0\0\x03\x05timer")
    assert struct.unpack_from(">IIqqq", moved, start) == (0, 2, 1000 + 6_000_000_000, 7, 50 + 2_000_000_000)
    assert len(moved) == len(state)
    assert moved[:start] == state[:start]
    assert moved[start + 32 :] == state[start + 32 :]


@pytest.mark.parametrize("reliable", [RELIABLE, b""])
def test_kvm_clock_moves_on_and_nothing_else(reliable: bytes) -> None:
    state = HEADER + timer() + OTHER + kvmclock(reliable=reliable) + END
    expected = HEADER + timer() + OTHER + kvmclock(12_345_678_901 + 2_500_000_000, reliable=reliable) + END
    assert advance_clock(state, 2.5, "kvm", 0) == expected


DAMAGED = [
    b"",
    HEADER,
    HEADER + OTHER + END,
    HEADER + timer(version=3) + kvmclock(version=2) + END,
    HEADER + timer() * 2 + kvmclock() * 2 + END,
    HEADER + timer(footer=b"\x7e\0\0\0\x04") + kvmclock(reliable=b"\x00") + END,
]


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
@pytest.mark.parametrize("damaged", DAMAGED, ids=range(len(DAMAGED)))
def test_state_of_another_form_is_refused(damaged: bytes, accelerator: str) -> None:
    with pytest.raises(VmmError, match="saved devices"):
        advance_clock(damaged, 1.0, accelerator, 1)


def test_state_that_ends_within_its_clock_is_refused() -> None:
    for end in range(15, 30):
        with pytest.raises(VmmError, match="saved devices"):
            advance_clock((HEADER + kvmclock())[:end], 1.0, "kvm", 0)


def test_a_clock_that_would_overflow_is_refused() -> None:
    with pytest.raises(VmmError, match="centuries"):
        advance_clock(HEADER + kvmclock((1 << 64) - 1) + END, 1.0, "kvm", 0)


def test_the_accelerator_is_seen_in_the_state() -> None:
    assert find_accelerator(HEADER + timer() + kvmclock() + END) == "kvm"
    assert find_accelerator(HEADER + OTHER + timer() + END) == "tcg"
    assert find_accelerator(HEADER + OTHER + END) is None


def test_what_qemu_7_2_saved_on_kvm_is_understood() -> None:
    """A whole state of an empty machine on KVM, as QEMU wrote it."""
    state = gzip.decompress((Path(__file__).parent / "data/kvm-devices.gz").read_bytes())
    assert find_accelerator(state) == "kvm"
    moved = advance_clock(state, 3600.0, "kvm", 0)
    place = state.index(b"\x08kvmclock") + len(b"\x08kvmclock") + 8
    before, after = (struct.unpack_from(">Q", each, place)[0] for each in (state, moved))
    assert 0 < before < 60 * 10**9
    assert after == before + 3600 * 10**9
    assert (moved[:place], moved[place + 8 :]) == (state[:place], state[place + 8 :])


async def test_what_the_installed_qemu_saves_is_understood(tmp_path: Path) -> None:
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "16"]
    command += ["-machine", "microvm", "-accel", "tcg", "-mon", "chardev=monitor,mode=control"]
    with contextlib.ExitStack() as opened:
        listener = listen(opened, tmp_path / "qmp.sock")
        command += ["-chardev", f"socket,id=monitor,fd={listener},server=on,wait=off"]
        qemu = await process.start(command, pass_fds=[listener])
    try:
        monitor = await Monitor.connect(tmp_path / "qmp.sock")
        await save_devices(monitor, tmp_path / "devices")
        await monitor.close()
    finally:
        await qemu.kill_group()
    state = (tmp_path / "devices").read_bytes()
    assert find_accelerator(state) == "tcg"
    moved = advance_clock(state, 1.0, "tcg", 1_000_000)
    assert len(moved) == len(state)
    assert 0 < sum(one != other for one, other in zip(state, moved, strict=True)) <= 16
