"""Which connections a guest has, by what the kernel's connection tracking tells."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from emberbox.host.network.flows import Flow, find_flows, open_tracking, read_flow
from emberbox.host.network.slots import GUEST_ADDRESS

ESTABLISHED, SYN_SENT, TIME_WAIT = 3, 1, 7


def attribute(kind: int, *contents: bytes, nested: bool = True) -> bytes:
    content = b"".join(contents)
    padding = b"\0" * (-len(content) % 4)
    return struct.pack("=HH", 4 + len(content), kind | (0x8000 if nested else 0)) + content + padding


def ends(kind: int, source: str, source_port: int, destination: str, port: int, protocol: int = 6) -> bytes:
    addresses = [attribute(i + 1, socket.inet_aton(end), nested=False) for i, end in enumerate((source, destination))]
    numbers = [attribute(i + 2, end.to_bytes(2, "big"), nested=False) for i, end in enumerate((source_port, port))]
    known = attribute(1, bytes((protocol,)), nested=False)
    return attribute(kind, attribute(1, *addresses), attribute(2, known, *numbers))


def state(number: int) -> bytes:
    return attribute(4, attribute(1, attribute(1, bytes((number,)), nested=False)))


OUTWARD = ends(1, GUEST_ADDRESS, 40000, "192.0.2.7", 443) + ends(2, "192.0.2.7", 443, "10.213.0.1", 40000)
INWARD = ends(1, "10.213.0.0", 50000, "10.213.0.1", 8080) + ends(2, GUEST_ADDRESS, 8080, "10.213.0.0", 50000)
TRANSLATED = ends(1, GUEST_ADDRESS, 40001, "10.0.2.3", 53) + ends(2, "198.51.100.9", 53, "10.213.0.1", 40001)
ELSEWHERE = ends(1, "10.213.0.1", 1, "192.0.2.7", 2) + ends(2, "192.0.2.7", 2, "10.213.0.1", 1)
DATAGRAMS = ends(1, GUEST_ADDRESS, 1, "192.0.2.7", 2, 17) + ends(2, "192.0.2.7", 2, "10.213.0.1", 1, 17)


@pytest.mark.parametrize(
    ("entry", "flow"),
    [
        (OUTWARD + state(ESTABLISHED), Flow(40000, "192.0.2.7", 443)),
        (INWARD + state(ESTABLISHED), Flow(8080, "10.213.0.0", 50000)),
        (TRANSLATED + state(ESTABLISHED), Flow(40001, "10.0.2.3", 53)),
        (OUTWARD + state(SYN_SENT), Flow(40000, "192.0.2.7", 443, is_attempt=True)),
        (OUTWARD + state(TIME_WAIT), None),
        (ELSEWHERE + state(ESTABLISHED), None),
        (DATAGRAMS, None),
        (b"", None),
        (OUTWARD[:30], None),
        (b"\xff" * 64, None),
    ],
)
def test_what_an_entry_says_of_the_guest(entry: bytes, flow: Flow | None) -> None:
    """The guest's end and what it sees as the other one, whoever began; nothing of what is no connection of its."""
    found = read_flow(entry)
    assert found == flow
    assert found is None or flow is None or found.is_attempt == flow.is_attempt


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is told by the kernel")
def test_this_kernel_tells() -> None:
    with socket.socket(fileno=open_tracking()) as kernel:
        assert isinstance(find_flows(kernel), set)
