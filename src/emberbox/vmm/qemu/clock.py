"""Moving the clocks in saved device state on: a resumed guest's monotonic clock has gone on while it was suspended.

The state is QEMU's migration stream: a header, then for each device a section, whose numbers are big-endian:

    0x04, section id (4 bytes), length of the name (1 byte), name, instance (4), version (4), fields,
    subsections, each with 0x05 before it, then 0x7e, section id (4)

An emulated guest counts time by the processor's ticks and by timers of the virtual clock. Where both stood is in the
section `timer` (the fields of QEMU's `vmstate_timers`, version 2). A guest on KVM counts by kvm-clock, whose
nanoseconds are in `kvmclock` (version 1); the processor's ticks need not be moved there, since KVM is told both and
relates one to the other. Moved on, they let the guest see what a machine sees whose processor was not scheduled for so
long. Nothing inside the guest could do this: Linux has no call to set CLOCK_MONOTONIC.
"""

from __future__ import annotations

import struct

from emberbox.model.errors import VmmError

_NS_PER_S, _NS_PER_MS = 1_000_000_000, 1_000_000
_SECTION, _SUBSECTION, _FOOTER = 0x04, 0x05, 0x7E
_HEAD = struct.Struct(">II")  # instance, version
_ID_BYTES = 4
_TCG, _TCG_VERSION = b"timer", 2
_TCG_FIELDS = struct.Struct(">qqq")  # ticks; unused; nanoseconds of the virtual clock
_KVM, _KVM_VERSION = b"kvmclock", 1
_KVM_FIELDS = struct.Struct(">Q")  # nanoseconds
_KVM_CLOCK_MAX = (1 << 64) - 1


def find_accelerator(state: bytes) -> str | None:
    """Return what device state was saved with, `kvm` or `tcg`; None where its clocks do not say."""
    if _find_sections(state, _KVM):
        return "kvm"
    return "tcg" if _find_sections(state, _TCG) else None


def has_user_network(state: bytes) -> bool:
    """Say whether device state holds connections of QEMU's own user-mode network, which no other network can take."""
    return bool(_find_sections(state, b"slirp"))


def advance_clock(state: bytes, elapsed_s: float, accelerator: str, tsc_khz: int) -> bytes:
    """Return device state of a guest in which so much time has passed.

    Args:
        state: the saved state.
        elapsed_s: seconds to add.
        accelerator: what it was saved with, `kvm` or `tcg`.
        tsc_khz: the rate of an emulated processor's ticks.

    Raises:
        VmmError: the state has another form than this QEMU's.
    """
    nanoseconds = int(elapsed_s * _NS_PER_S)
    moved = bytearray(state)
    if accelerator == "kvm":
        start = _find_fields(state, _KVM, _KVM_VERSION, _KVM_FIELDS.size)
        (clock_ns,) = _KVM_FIELDS.unpack_from(state, start)
        if clock_ns + nanoseconds > _KVM_CLOCK_MAX:
            raise VmmError("the clock in the saved devices is damaged: it shows centuries")
        _KVM_FIELDS.pack_into(moved, start, clock_ns + nanoseconds)
    else:
        start = _find_fields(state, _TCG, _TCG_VERSION, _TCG_FIELDS.size)
        ticks, unused, virtual_ns = _TCG_FIELDS.unpack_from(state, start)
        ticks += nanoseconds * tsc_khz // _NS_PER_MS
        _TCG_FIELDS.pack_into(moved, start, ticks, unused, virtual_ns + nanoseconds)
    return bytes(moved)


def _find_fields(state: bytes, name: bytes, wanted_version: int, size: int) -> int:
    """Return where the fields of the one section of this name begin.

    Raises:
        VmmError: there is none, or several, or it is not of this form.
    """
    places = list(_find_sections(state, name))
    if len(places) != 1:
        raise VmmError("the saved devices have no clock, or several; were they saved by another QEMU?")
    (start,) = places
    head = start + 1 + _ID_BYTES + 1 + len(name)
    fields = head + _HEAD.size
    section_id, end = state[start + 1 : start + 1 + _ID_BYTES], fields + size
    if len(state) < end + 1 + _ID_BYTES:
        raise VmmError("the saved devices end in the middle of their clock")
    instance, version = _HEAD.unpack_from(state, head)
    if (instance, version) != (0, wanted_version):
        raise VmmError(
            f"the clock in the saved devices has version {version}, not {wanted_version}; use the QEMU of before"
        )
    ends_here = state[end] == _FOOTER and state[end + 1 : end + 1 + _ID_BYTES] == section_id
    if not ends_here and state[end] != _SUBSECTION:
        raise VmmError("the clock in the saved devices has another form; were they saved by another QEMU?")
    return fields


def _find_sections(state: bytes, name: bytes) -> list[int]:
    """Return where a section with this name begins; the name may also be in what devices have saved."""
    found, needle = [], bytes((len(name),)) + name
    place = state.find(needle)
    while place >= 0:
        start = place - 1 - _ID_BYTES
        if start >= 0 and state[start] == _SECTION:
            found.append(start)
        place = state.find(needle, place + 1)
    return found
