"""What a sandbox is given when it begins: the two ends of its device."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from emberbox.vmm.base import UserNetwork, Wire
from emberbox.vmm.gvisor.start import open_device


async def test_a_device_without_a_wire_has_its_other_end_for_the_keeper() -> None:
    async with open_device(UserNetwork()) as device:
        assert device.nowhere is not None
        os.write(device.guest, b"frame")
        assert os.read(device.nowhere, 100) == b"frame"
        ends = (device.guest, device.nowhere)
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_wires_device_is_closed_after_the_block(fails: bool) -> None:
    ours, theirs = socket.socketpair()

    async def open_wire() -> int:
        return theirs.detach()

    with ours:
        try:
            async with open_device(Wire(Path("/run/netns/none"), "tap0", open_wire, None)) as device:
                assert device.nowhere is None
                os.write(device.guest, b"frame")
                if fails:
                    raise ConnectionError
        except ConnectionError:
            assert fails
        assert ours.recv(100) == b"frame"
        assert ours.recv(100) == b""
