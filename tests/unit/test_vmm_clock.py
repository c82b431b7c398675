"""Moving on the clock in saved device state."""

from __future__ import annotations

import struct

import pytest

from emberbox.model.errors import VmmError
from emberbox.vmm.qemu.clock import advance_clock


def state(version: int = 2, copies: int = 1) -> bytes:
    section = b"\x04\0\0\0\x03\x05timer" + struct.pack(">IIqqq", 0, version, 1000, 7, 50)
    return b"QEVM\0\0\0\x03" + section * copies + b"\x7e\0\0\0\x03\x00"


def test_ticks_and_virtual_time_move_on_together() -> None:
    moved = advance_clock(state(), 2.0, 3_000_000)
    start = moved.index(b"timer") + 5
    assert struct.unpack_from(">IIqqq", moved, start) == (0, 2, 1000 + 6_000_000_000, 7, 50 + 2_000_000_000)
    assert len(moved) == len(state())
    assert moved[:start] == state()[:start]
    assert moved[start + 32 :] == state()[start + 32 :]


@pytest.mark.parametrize("damaged", [b"", b"QEVM", state(version=3), state(copies=2)])
def test_state_of_another_form_is_refused(damaged: bytes) -> None:
    with pytest.raises(VmmError, match="saved devices"):
        advance_clock(damaged, 1.0, 1)
