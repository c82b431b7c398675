"""The packet socket that is a sandbox's device: what passes between it and the other end of its pair."""

from __future__ import annotations

import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.host.network.netns import _in_namespace
from emberbox.host.runsc.network import open_packet_socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")

VNET_HEADER = bytes(10)
STRANGER, GUEST = bytes.fromhex("0299999999aa"), bytes.fromhex("02eb00000001")
KIND = b"\x88\xb5"  # for experiments (IEEE 802): nobody's own network answers it
FRAME = STRANGER + GUEST + KIND + b"content" * 10


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A network namespace with a pair of devices: `near`, and `far`."""
    name = f"ebt-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for line in ("link add near type veth peer name far", "link set near up", "link set far up"):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def near_end() -> socket.socket:
    near = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    near.bind(("near", 0x88B5))
    near.settimeout(10)
    return near


def receive(opened: socket.socket) -> bytes:
    """Return the next frame that is of this test."""
    while KIND not in (received := opened.recv(65536)):
        pass
    return received


def test_frames_pass_both_ways_with_a_header_for_whoever_they_are(namespace: Path) -> None:
    far = socket.socket(fileno=_in_namespace(namespace, lambda: open_packet_socket("far")))
    with far, _in_namespace(namespace, near_end) as near:
        far.settimeout(10)
        near.send(FRAME)
        received = receive(far)
        assert received[len(VNET_HEADER) :] == FRAME
        far.send(VNET_HEADER + GUEST + STRANGER + KIND + b"answer" * 10)
        assert receive(near).endswith(b"answer" * 10)


def test_it_is_no_childs_and_needs_its_device(namespace: Path) -> None:
    fd = _in_namespace(namespace, lambda: open_packet_socket("far"))
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(OSError, match="No such device"):
        _in_namespace(namespace, lambda: open_packet_socket("other"))
