"""TCP connections of a guest, as the connection tracking of its namespace knows them (ctnetlink).

All that a guest has to elsewhere goes through its namespace's address translation, so all of it is known there, whoever
began it. It is told of in the addresses that the guest itself sees.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from emberbox.host import netlink
from emberbox.host.network.slots import GUEST_ADDRESS
from emberbox.model.errors import HostError

_NETLINK_NETFILTER: Final = 12
_GET: Final = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_FAMILY: Final = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg
_NESTED_MASK: Final = 0x3FFF  # NLA_TYPE_MASK
# enum ctattr_type, _tuple, _ip, _l4proto, _protoinfo and _protoinfo_tcp of linux/netfilter/nfnetlink_conntrack.h
_ORIGINAL, _REPLY, _PROTOINFO = 1, 2, 4
_IP, _PROTO = 1, 2
_SOURCE, _DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_TCP_INFO, _TCP_STATE = 1, 1
_SYN_SENT: Final = 1
_OVER: Final = (7, 8)
"""TIME_WAIT and CLOSE of enum tcp_conntrack."""

_REFUSAL: Final = "this kernel does not tell of a microVM's connections"


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection.

    Args:
        port: the guest's.
        peer: the address at its other end.
        peer_port: the port there.
        is_attempt: it is one of the guest's that nobody has answered; of no concern for whether two are the same.
    """

    port: int
    peer: str
    peer_port: int
    is_attempt: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Ends:
    """What one direction of a connection is known by."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int


def open_tracking() -> int:
    """Return a descriptor of a socket that is asked about the calling thread's network namespace; the caller closes it.

    Raises:
        HostError: the kernel has none.
    """
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).detach()
    except OSError as error:
        raise HostError(f"{_REFUSAL}: {error.strerror}") from error


def find_flows(kernel: socket.socket) -> set[Flow]:
    """Return the guest's connections that are open.

    Args:
        kernel: from `open_tracking`.

    Raises:
        HostError: the kernel does not tell.
    """
    try:
        netlink.ask(kernel, _GET, netlink.DUMP, _FAMILY)
        entries = (payload[len(_FAMILY) :] for payload in netlink.read_answers(kernel))
        return {flow for entry in entries if (flow := read_flow(entry)) is not None}
    except OSError as error:
        raise HostError(f"{_REFUSAL}: {error.strerror}") from error


def read_flow(entry: bytes) -> Flow | None:
    """Return what an entry of the kernel's is about; None where it is no open TCP connection of the guest's."""
    attributes = _attributes(entry)
    state = _attributes(_attributes(attributes.get(_PROTOINFO, b"")).get(_TCP_INFO, b"")).get(_TCP_STATE, b"\0")[0]
    if state in _OVER:
        return None
    with contextlib.suppress(LookupError, ValueError, OSError, struct.error):
        there, back = _read_ends(attributes[_ORIGINAL]), _read_ends(attributes[_REPLY])
        if there.protocol != socket.IPPROTO_TCP:
            return None
        if there.source == GUEST_ADDRESS:
            return Flow(there.source_port, there.destination, there.destination_port, state == _SYN_SENT)
        if back.source == GUEST_ADDRESS:
            return Flow(back.source_port, back.destination, back.destination_port)
    return None


def _read_ends(content: bytes) -> _Ends:
    attributes = _attributes(content)
    addresses, protocol = _attributes(attributes[_IP]), _attributes(attributes[_PROTO])
    return _Ends(
        protocol[_NUMBER][0],
        socket.inet_ntoa(addresses[_SOURCE]),
        int.from_bytes(protocol.get(_SOURCE_PORT, b"\0\0"), "big"),
        socket.inet_ntoa(addresses[_DESTINATION]),
        int.from_bytes(protocol.get(_DESTINATION_PORT, b"\0\0"), "big"),
    )


def _attributes(content: bytes) -> Mapping[int, bytes]:
    """Return netlink attributes by their types."""
    found: dict[int, bytes] = {}
    while len(content) >= 4:
        length, kind = struct.unpack_from("=HH", content)
        if length < 4:
            break
        found[kind & _NESTED_MASK] = content[4:length]
        content = content[(length + 3) & ~3 :]
    return found
