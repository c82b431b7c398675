"""What a guest without a network is answered (agent/nowhere.c): the keeper's own C code, on frames."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.compiling import LIBRARY, compile_c

OFFLOAD = bytes(10)
GUEST, GATEWAY = bytes.fromhex("02eb00000001"), bytes.fromhex("02eb00000002")
GUEST_IP, OUTSIDE = socket.inet_aton("10.0.2.15"), socket.inet_aton("198.51.100.7")
EVERYBODY = b"\xff" * 6
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
NET_UNREACHABLE, PORT_UNREACHABLE = (3, 0), (3, 3)
ECHO, TIME_EXCEEDED = 8, 11
TCP, UDP, ICMP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP

Ask = Callable[[bytes], bytes | None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    made = compile_c(tmp_path_factory.mktemp("keeper") / "nowhere.so", [Path("nowhere.c")], LIBRARY)
    return ctypes.CDLL(str(made))


@pytest.fixture
def ask(library: ctypes.CDLL) -> Iterator[Ask]:
    """Sends a frame of the guest's, and returns the answer."""
    guest, nowhere = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    guest.setblocking(False)

    def send(frame: bytes) -> bytes | None:
        guest.send(OFFLOAD + frame)
        library.nowhere_answer(nowhere.fileno())
        try:
            answer = guest.recv(65536)
        except BlockingIOError:
            return None
        assert answer.startswith(OFFLOAD)
        return answer[len(OFFLOAD) :]

    with guest, nowhere:
        yield send


def ethernet(kind: int, content: bytes, to: bytes = GATEWAY, sender: bytes = GUEST) -> bytes:
    return to + sender + kind.to_bytes(2, "big") + content


def arp(operation: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + b"".join(sender) + b"".join(target)


def packet(protocol: int, content: bytes, to: bytes = OUTSIDE, fragment: int = 0, options: bytes = b"") -> bytes:
    length = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + len(content), 0, fragment, 64, protocol, 0)
    return head + GUEST_IP + to + options + content


def checksum(content: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def test_every_address_has_the_gateways_hardware_address(ask: Ask) -> None:
    asked = ethernet(ARP, arp(1, (GUEST, GUEST_IP), (bytes(6), OUTSIDE)), EVERYBODY)
    assert ask(asked) == ethernet(ARP, arp(2, (GATEWAY, OUTSIDE), (GUEST, GUEST_IP)), GUEST, GATEWAY)


@pytest.mark.parametrize("sender", [GUEST_IP, bytes(4)])
def test_the_guests_own_address_is_nobody_elses(ask: Ask, sender: bytes) -> None:
    assert ask(ethernet(ARP, arp(1, (GUEST, sender), (bytes(6), GUEST_IP)), EVERYBODY)) is None
    assert ask(ethernet(ARP, arp(2, (GUEST, GUEST_IP), (GATEWAY, OUTSIDE)))) is None


@pytest.mark.parametrize(
    ("protocol", "content", "refusal"),
    [
        (TCP, bytes(20), NET_UNREACHABLE),
        (UDP, bytes(8) + b"question", PORT_UNREACHABLE),
        (ICMP, bytes([ECHO]) + bytes(7), NET_UNREACHABLE),
        (TCP, bytes(60_000), NET_UNREACHABLE),
    ],
)
@pytest.mark.parametrize("options", [b"", bytes(40)])
def test_what_is_sent_anywhere_is_refused(
    ask: Ask, protocol: int, content: bytes, refusal: tuple[int, int], options: bytes
) -> None:
    sent = packet(protocol, content, options=options)
    answer = ask(ethernet(IPV4, sent))
    assert answer is not None
    assert answer.startswith(ethernet(IPV4, b"", GUEST, GATEWAY))
    head, message = answer[14:34], answer[34:]
    assert (checksum(head), checksum(message)) == (0, 0)
    assert head[9:10] + head[12:] == bytes([ICMP]) + OUTSIDE + GUEST_IP
    assert int.from_bytes(head[2:4], "big") == len(head) + len(message)
    assert tuple(message[:2]) == refusal
    assert message[8:] == sent[: 28 + len(options)]


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(IPV4, packet(ICMP, bytes([TIME_EXCEEDED]) + bytes(7))),
        ethernet(IPV4, packet(UDP, bytes(8), socket.inet_aton("224.0.0.251"))),
        ethernet(IPV4, packet(UDP, bytes(8), b"\xff" * 4)),
        ethernet(IPV4, packet(UDP, bytes(8), fragment=100)),
        ethernet(IPV4, packet(UDP, bytes(7))),
        ethernet(IPV4, packet(UDP, bytes(8))[:19]),
        ethernet(IPV4, b"\x4f" + packet(UDP, bytes(8))[1:]),
        ethernet(IPV4, b"\x41" + packet(UDP, bytes(8))[1:]),
        ethernet(IPV6, bytes(48)),
        ethernet(ARP, bytes(27)),
        b"",
    ],
)
def test_other_frames_are_answered_with_nothing(ask: Ask, frame: bytes) -> None:
    assert ask(frame) is None


def test_many_at_once_are_answered_in_turns(library: ctypes.CDLL) -> None:
    guest, nowhere = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    frame = OFFLOAD + ethernet(IPV4, packet(UDP, bytes(8)))
    with guest, nowhere:
        guest.setblocking(False)
        sent = 0
        while True:
            try:
                sent += bool(guest.send(frame))
            except BlockingIOError:
                break
        answers = 0
        for _ in range(sent):
            library.nowhere_answer(nowhere.fileno())
            try:
                while guest.recv(65536):
                    answers += 1
            except BlockingIOError:
                pass
        assert answers == sent
