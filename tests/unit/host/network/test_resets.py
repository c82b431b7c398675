"""Resetting a guest's connections by packets: over a socket pair, against peers that answer as kernels do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from emberbox.host.network import resets
from emberbox.host.network.flows import Flow
from emberbox.host.network.resets import read_segment, render_probe, render_reset, reset_flows
from emberbox.host.network.slots import GUEST_ADDRESS

ONE, OTHER = Flow(8080, "192.0.2.7", 443), Flow(8081, "192.0.2.7", 443)
WANTED = 0xFFFFFF00
ATTEMPT = Flow(8082, "192.0.2.7", 443, is_attempt=True)
_SYN, _RST = 0x02, 0x04


class Wire:
    """A packet socket's end, as far as it is used."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.fileno = end.fileno
        self.send = end.send

    def recvfrom(self, size: int) -> tuple[bytes, tuple[object, ...]]:
        return self._end.recv(size), ("tap0", 0x0800, 0, 1, b"")


def flags_and_number(frame: bytes) -> tuple[int, int]:
    return frame[14 + 20 + 13], int.from_bytes(frame[14 + 20 + 4 :][:4], "big")


def answer(flow: Flow, flags: int, wanted: int) -> bytes:
    """Return what a guest sends in a connection."""
    addresses = socket.inet_aton(GUEST_ADDRESS) + socket.inet_aton(flow.peer)
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses
    return bytes(14) + packet + struct.pack("!HHIIBBHHH", flow.port, flow.peer_port, 1, wanted, 0x50, flags, 0, 0, 0)


class Guest:
    """Has connections; one that is reset at the right number is gone."""

    def __init__(self, *flows: Flow, says_nothing_at_first: bool = False) -> None:
        self.flows = set(flows)
        self.was_told: list[tuple[int, int]] = []
        self._is_deaf = says_nothing_at_first

    def take(self, frame: bytes) -> bytes | None:
        port, peer_port = int.from_bytes(frame[36:38], "big"), int.from_bytes(frame[34:36], "big")
        flow = Flow(port, socket.inet_ntoa(frame[26:30]), peer_port)
        flags, number = flags_and_number(frame)
        self.was_told.append((flags, number))
        if self._is_deaf:
            self._is_deaf = False
            return None
        if flags & _RST:
            if number == WANTED:
                self.flows.discard(flow)
            return None
        return answer(flow, 0x10, WANTED) if flow in self.flows else answer(flow, _RST, 0)


@contextmanager
def wired(take: Callable[[bytes], bytes | None]) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def live() -> None:
        while frame := theirs.recv(256):
            if (said := take(frame)) is not None:
                theirs.send(said)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield Wire(ours)  # type: ignore[misc]
    finally:
        ours.close()
        thread.join()
        theirs.close()


def test_each_is_reset_at_the_number_that_the_guest_expects() -> None:
    guest = Guest(ONE, OTHER)
    with wired(guest.take) as device:
        assert reset_flows(device, {ONE, OTHER}) == 0
    assert not guest.flows


def test_one_that_has_ended_by_itself_is_known_to_have() -> None:
    guest = Guest(ONE)
    with wired(guest.take) as device:
        assert reset_flows(device, {ONE, OTHER}) == 0


def test_an_attempt_of_the_guests_is_answered_and_reset() -> None:
    """It takes no number before it has had an attempt of its peer's."""
    guest = Guest(ATTEMPT)
    with wired(guest.take) as device:
        assert reset_flows(device, {ATTEMPT}) == 0
    assert not guest.flows
    assert guest.was_told[0] == (_SYN, 0)


def test_a_guest_that_does_not_answer_at_first_is_asked_again() -> None:
    guest = Guest(ONE, says_nothing_at_first=True)
    with wired(guest.take) as device:
        assert reset_flows(device, {ONE}) == 0
    assert not guest.flows


def test_one_that_never_answers_is_given_up_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "RESET_TIMEOUT_S", 0.15)
    with wired(lambda _frame: None) as device:
        assert reset_flows(device, {ONE, OTHER}) == 2


@pytest.mark.parametrize("frame", [b"", bytes(14), bytes(60), answer(ONE, 0x10, 1)[:40], answer(ONE, 0x02, 1)])
def test_what_is_no_answer_says_nothing(frame: bytes) -> None:
    """Neither does an attempt of the guest's (SYN): it expects nothing yet."""
    assert read_segment(frame) is None


@pytest.mark.parametrize("frame", [render_probe(ONE), render_reset(ONE, WANTED)])
def test_its_checksums_are_right(frame: bytes) -> None:
    """RFC 1071: the sum over a packet with its checksum is zero; TCP's is over the addresses and the length too."""
    packet, segment = frame[14:34], frame[34:]
    pseudo = packet[12:20] + struct.pack("!HH", 6, len(segment))
    assert complement(packet) == complement(pseudo + segment) == 0xFFFF
    assert len(frame) - 14 == int.from_bytes(packet[2:4], "big")


def complement(content: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(content) + 1) // 2}H", content + b"\0" * (len(content) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
