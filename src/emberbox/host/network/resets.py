"""Resetting a guest's connections from outside, by packets that its kernel takes for its peers'.

A reset counts only with the sequence number that the guest expects, which nobody here knows. So the guest is asked:
to a segment with another number it answers with the one that it expects (RFC 9293, 3.10.7.4), and to one of a
connection that it does not have with a reset, by which is known that this one has ended:

    probe ──► answer with the number ──► reset ──► probe ──► reset: it has ended

One that the guest only attempts, and nobody has answered, expects no number yet. There the probe is an attempt of the
peer's at the same time (RFC 9293, 3.5), which the guest answers.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from emberbox.host.network.flows import Flow
from emberbox.host.network.slots import GATEWAY_MAC, GUEST_ADDRESS, GUEST_MAC
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

RESET_TIMEOUT_S = limit_s(0.5)
"""Of all connections of a guest; it answers within a millisecond unless it is very busy."""

AGAIN_S: Final = 0.05
"""After which a guest that has not answered is asked once more."""

ROOM_BYTES: Final = 4 << 20
_DEVICE: Final = "tap0"
_ETHERTYPE: Final = 0x0800
_ETHERNET: Final = struct.Struct("!6s6sH")
_IP: Final = struct.Struct("!BBHHHBBH4s4s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_SYN, _RST, _PSH, _ACK = 0x02, 0x04, 0x08, 0x10
_FRAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment that a guest has sent; `wanted` is the sequence number that it expects next."""

    flow: Flow
    wanted: int
    is_reset: bool


def open_device() -> int:
    """Return a descriptor of a packet socket at the guest's wire in the calling thread's network namespace.

    The caller closes it.

    Raises:
        HostError: the kernel does not give one.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM_BYTES)
            opened.bind((_DEVICE, _ETHERTYPE))
            opened.setblocking(False)
            return opened.detach()
    except OSError as error:
        raise HostError(f"a microVM's connections cannot be reset: {error.strerror}") from error


def reset_flows(device: socket.socket, flows: Collection[Flow]) -> int:
    """Reset a guest's connections and see that they have ended; return how many of them have not.

    It waits, bounded: a guest that does not answer keeps what it has. Call it in a thread.

    Args:
        device: from `open_device`.
        flows: the connections.

    Raises:
        HostError: nothing can be sent.
    """
    try:
        return len(_reset(device, {flow: flow for flow in flows}))
    except OSError as error:
        raise HostError(f"a microVM's connections cannot be reset: {error.strerror}") from error


def _reset(device: socket.socket, left: dict[Flow, Flow]) -> dict[Flow, Flow]:
    deadline = time.monotonic() + RESET_TIMEOUT_S
    while left and time.monotonic() < deadline:
        for flow in left:
            _send(device, render_probe(flow))
        again = time.monotonic() + AGAIN_S
        while left and (rest := min(again, deadline) - time.monotonic()) > 0:
            if select.select([device], [], [], rest)[0]:
                _take(device, left)
    return left


def _take(device: socket.socket, left: dict[Flow, Flow]) -> None:
    """Take one segment of the guest's, and answer it."""
    frame, address = device.recvfrom(_FRAME_BYTES)
    segment = None if address[2] == socket.PACKET_OUTGOING else read_segment(frame)
    flow = None if segment is None else left.get(segment.flow)
    if segment is None or flow is None:
        return
    if segment.is_reset:
        del left[flow]
        return
    _send(device, render_reset(flow, segment.wanted))
    _send(device, render_probe(flow))


def _send(device: socket.socket, frame: bytes) -> None:
    with contextlib.suppress(BlockingIOError):  # it is asked again
        device.send(frame)


def read_segment(frame: bytes) -> Segment | None:
    """Return what a frame of the guest's says; None where it is no TCP segment of the guest's."""
    try:
        first, _, _, _, _, _, protocol, _, source, destination = _IP.unpack_from(frame, _ETHERNET.size)
        start = _ETHERNET.size + (first & 0xF) * 4
        port, peer_port, _, wanted, _, flags, _, _, _ = _TCP.unpack_from(frame, start)
    except struct.error:
        return None
    if protocol != socket.IPPROTO_TCP or socket.inet_ntoa(source) != GUEST_ADDRESS or not flags & (_ACK | _RST):
        return None
    return Segment(Flow(port, socket.inet_ntoa(destination), peer_port), wanted, bool(flags & _RST))


def render_probe(flow: Flow) -> bytes:
    """Return a frame that the guest answers: with a byte that is not expected, which has no limit of how often."""
    return _render(flow, _SYN, 0) if flow.is_attempt else _render(flow, _ACK | _PSH, 0, b"\0")


def render_reset(flow: Flow, number: int) -> bytes:
    """Return a frame that resets a connection whose next sequence number this is."""
    return _render(flow, _RST, number)


def _render(flow: Flow, flags: int, number: int, content: bytes = b"") -> bytes:
    ends = socket.inet_aton(flow.peer) + socket.inet_aton(GUEST_ADDRESS)
    length = _TCP.size + len(content)
    pseudo = ends + struct.pack("!HH", socket.IPPROTO_TCP, length)

    def segment(checksum: int) -> bytes:
        return _TCP.pack(flow.peer_port, flow.port, number, 0, 5 << 4, flags, 0, checksum, 0) + content

    def packet(checksum: int) -> bytes:
        return _IP.pack(0x45, 0, _IP.size + length, 0, 0, 64, socket.IPPROTO_TCP, checksum, ends[:4], ends[4:])

    ethernet = _ETHERNET.pack(_mac(GUEST_MAC), _mac(GATEWAY_MAC), _ETHERTYPE)
    return ethernet + packet(_checksum(packet(0))) + segment(_checksum(pseudo + segment(0)))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(content: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(content) + 1) // 2}H", content + b"\0" * (len(content) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
