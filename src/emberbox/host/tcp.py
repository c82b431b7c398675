"""TCP connections of this host to one address, as sock_diag(7) tells of them: listed, and ended.

To end one (SOCK_DESTROY) is what `ss --kill` does: both ends get a reset at once, where a socket whose peer is gone
would wait for minutes. It takes root and CONFIG_INET_DIAG_DESTROY, which Debian's kernels have.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emberbox.host import netlink
from emberbox.model.errors import HostError

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_REQ_BYTECODE, _BC_D_COND = 1, 8
_REQUEST: Final = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2
_FOUND: Final = struct.Struct("=BBBx48sIIIII")  # struct inet_diag_msg
_ID: Final = struct.Struct("!HH4s12x4s12x4x8x")  # struct inet_diag_sockid
# Bit n is state n of include/net/tcp_states.h: all but TIME_WAIT, CLOSE, LISTEN and what no process has yet.
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))


@dataclass(frozen=True, slots=True)
class HostConnection:
    """One connection.

    Args:
        source: the address of this end.
        source_port: the port of this end.
        port: the port of the other end.
        undelivered: how many bytes the other end has not acknowledged.
        id: how the kernel knows it.
    """

    source: str
    source_port: int
    port: int
    undelivered: int
    id: bytes


def find_connections(address: str) -> list[HostConnection]:
    """Return the connections to an IPv4 address.

    Raises:
        HostError: the kernel does not tell.
    """
    condition = struct.pack("=BBHBBxxi4s", _BC_D_COND, 16, 20, socket.AF_INET, 32, -1, socket.inet_aton(address))
    attribute = struct.pack("=HH", 4 + len(condition), _REQ_BYTECODE) + condition
    request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _STATES, bytes(48)) + attribute
    try:
        with _ask(_SOCK_DIAG_BY_FAMILY, netlink.DUMP, request) as kernel:
            return [_read(payload) for payload in netlink.read_answers(kernel)]
    except OSError as error:
        raise HostError(f"this kernel does not tell of its TCP connections: {error.strerror}") from error


def end_connections(connections: Iterable[HostConnection]) -> None:
    """Reset connections, on both sides; those that have ended meanwhile are no failure.

    Raises:
        HostError: the kernel cannot do it.
    """
    for connection in connections:
        request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, connection.id)
        try:
            with _ask(_SOCK_DESTROY, netlink.ACK, request) as kernel:
                list(netlink.read_answers(kernel))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise HostError(
                    f"connections to microVMs cannot be ended: {error.strerror}; "
                    "use a kernel with CONFIG_INET_DIAG_DESTROY, as Debian's are"
                ) from error


def _ask(kind: int, flags: int, request: bytes) -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    try:
        netlink.ask(kernel, kind, flags, request)
    except BaseException:
        kernel.close()
        raise
    return kernel


def _read(payload: bytes) -> HostConnection:
    _, _, _, identity, _, _, undelivered, _, _ = _FOUND.unpack_from(payload)
    source_port, port, source, _ = _ID.unpack(identity)
    return HostConnection(socket.inet_ntoa(source), source_port, port, undelivered, identity)
