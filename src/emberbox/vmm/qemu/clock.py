"""Moving the clocks in saved device state on: a resumed guest's monotonic clock has gone on while it was suspended.

An emulated guest counts time by the processor's ticks and by timers of the virtual clock. Where both stood is in the
section `timer` of the state (QEMU's migration stream: a header, then for each device a section with its name, whose
numbers are big-endian; the fields are those of QEMU's `vmstate_timers`, version 2). Moved on together, they let the
guest see what a machine sees whose processor was not scheduled for so long. Nothing inside the guest could do this:
Linux has no call to set CLOCK_MONOTONIC.
"""

from __future__ import annotations

import struct

from emberbox.model.errors import VmmError

_NS_PER_S, _NS_PER_MS = 1_000_000_000, 1_000_000
_NAME = b"\x05timer"
_HEAD = struct.Struct(">II")  # instance, version
_FIELDS = struct.Struct(">qqq")  # ticks; unused; nanoseconds of the virtual clock
_VERSION = 2


def advance_clock(state: bytes, elapsed_s: float, tsc_khz: int) -> bytes:
    """Return device state of an emulated guest in which so much time has passed.

    Args:
        state: the saved state.
        elapsed_s: seconds to add.
        tsc_khz: the rate of the processor's ticks.

    Raises:
        VmmError: the state has another form than this QEMU's.
    """
    start = state.find(_NAME) + len(_NAME)
    if start < len(_NAME) or state.find(_NAME, start) >= 0:
        raise VmmError("the saved devices have no clock, or several; were they saved by another QEMU?")
    _, version = _HEAD.unpack_from(state, start)
    if version != _VERSION:
        raise VmmError(f"the clock in the saved devices has version {version}, not {_VERSION}; use the QEMU of before")
    ticks, unused, virtual_ns = _FIELDS.unpack_from(state, start + _HEAD.size)
    moved = bytearray(state)
    nanoseconds = int(elapsed_s * _NS_PER_S)
    ticks += nanoseconds * tsc_khz // _NS_PER_MS
    _FIELDS.pack_into(moved, start + _HEAD.size, ticks, unused, virtual_ns + nanoseconds)
    return bytes(moved)
