"""Who has the descriptor of a guest's tap device, and when it is closed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from emberbox.vmm.base import HeldNetwork, Wire
from emberbox.vmm.qemu.driver import _open_tap
from emberbox.vmm.qemu.tap import HeldTap


async def open_null() -> int:
    return os.open("/dev/null", os.O_RDWR)


def wire(held: HeldNetwork | None) -> Wire:
    return Wire(Path("/run/netns/one"), "tap0", open_null, held)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_a_device_that_was_opened_for_a_start_is_closed_after_it() -> None:
    with contextlib.ExitStack() as opened:
        tap = await _open_tap(opened, wire(None))
        assert is_open(tap)
    assert not is_open(tap)


async def test_a_device_that_was_held_is_used_and_stays_the_holders() -> None:
    held = HeldTap(await open_null())
    with contextlib.ExitStack() as opened:
        assert await _open_tap(opened, wire(held)) == held.fileno()
    assert is_open(held.fileno())
    held.close()
    held.close()


async def test_what_was_let_go_is_not_used_again() -> None:
    held = HeldTap(await open_null())
    held.close()
    with contextlib.ExitStack() as opened, pytest.raises(AssertionError):
        await _open_tap(opened, wire(held))
