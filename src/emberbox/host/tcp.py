"""TCP connections of this host to one address, as sock_diag(7) tells of them: listed, and ended.

To end one (SOCK_DESTROY) is what `ss --kill` does: both ends get a reset at once, where a socket whose peer is gone
would wait for minutes. It takes root and CONFIG_INET_DIAG_DESTROY, which Debian's kernels have.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from emberbox.model.errors import HostError

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 1, 4, 0x300
_REQ_BYTECODE, _BC_D_COND = 1, 8
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2
_FOUND: Final = struct.Struct("=BBBx48sIIIII")  # struct inet_diag_msg
_ID: Final = struct.Struct("!HH4s12x4s12x4x8x")  # struct inet_diag_sockid
# Bit n is state n of include/net/tcp_states.h: all but TIME_WAIT, CLOSE, LISTEN and what no process has yet.
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
_READ_BYTES: Final = 1 << 18


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
        with _ask(_SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, request) as kernel:
            return [_read(payload) for payload in _answers(kernel)]
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
            with _ask(_SOCK_DESTROY, _NLM_F_ACK, request) as kernel:
                list(_answers(kernel))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise HostError(
                    f"connections to microVMs cannot be ended: {error.strerror}; "
                    "use a kernel with CONFIG_INET_DIAG_DESTROY, as Debian's are"
                ) from error


def _ask(kind: int, flags: int, request: bytes) -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    try:
        kernel.sendto(_HEADER.pack(_HEADER.size + len(request), kind, _NLM_F_REQUEST | flags, 1, 0) + request, (0, 0))
    except BaseException:
        kernel.close()
        raise
    return kernel


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    """Yield the messages of an answer, which ends with DONE or an error; the error 0 is an acknowledgement."""
    while True:
        answer = kernel.recv(_READ_BYTES)
        while answer:
            length, kind, _, _, _ = _HEADER.unpack_from(answer)
            payload, answer = answer[_HEADER.size : length], answer[(length + 3) & ~3 :]
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            yield payload


def _read(payload: bytes) -> HostConnection:
    _, _, _, identity, _, _, undelivered, _, _ = _FOUND.unpack_from(payload)
    source_port, port, source, _ = _ID.unpack(identity)
    return HostConnection(socket.inet_ntoa(source), source_port, port, undelivered, identity)
