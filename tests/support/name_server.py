"""A name server of the tests' own, over UDP and TCP: every name has the address that it was made with."""

from __future__ import annotations

import ctypes
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MANY = 60
"""How many addresses a name has that begins with `many`: too many for a datagram, so it is asked again by TCP."""

_DATAGRAM_BYTES = 512


@dataclass
class NameServer:
    """What was asked, each as the protocol, the asker's address, and the name."""

    address: str
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names only."""
        return [name for _, _, name in self.asked]


@contextmanager
def serve_names(host: str, address: str, namespace: str | None = None, port: int = 53) -> Iterator[NameServer]:
    """Answer at an address of this host, or of a network namespace, for as long as the block lasts."""
    server = NameServer(address)

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, reply = self.request
            if (answer := _answer(server, "udp", self.client_address[0], query)) is not None:
                reply.sendto(answer if len(answer) <= _DATAGRAM_BYTES else _truncated(answer), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while len(prefix := self.rfile.read(2)) == 2:
                query = self.rfile.read(*struct.unpack("!H", prefix))
                if (answer := _answer(server, "tcp", self.client_address[0], query)) is not None:
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        _Udp((host, port), Datagram, family, namespace) as udp,
        _Tcp((host, port), Stream, family, namespace) as tcp,
    ):
        for listener in (udp, tcp):
            threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            udp.shutdown()
            tcp.shutdown()


class _Elsewhere:
    """A socket server whose socket is in another network namespace."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, where: tuple[str, int], handler: object, family: int, namespace: str | None) -> None:
        self.address_family = family
        with _inside(namespace):
            super().__init__(where, handler)  # type: ignore[call-arg]  # the other base class's


class _Udp(_Elsewhere, socketserver.ThreadingUDPServer):
    pass


class _Tcp(_Elsewhere, socketserver.ThreadingTCPServer):
    pass


@contextmanager
def _inside(namespace: str | None) -> Iterator[None]:
    """Move this thread to a network namespace for as long as the block lasts."""
    if namespace is None:
        yield
        return
    setns = ctypes.CDLL(None, use_errno=True).setns
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{namespace}").open() as there:
        assert setns(there.fileno(), 0) == 0
        try:
            yield
        finally:
            assert setns(home.fileno(), 0) == 0


def _answer(server: NameServer, protocol: str, asker: str, query: bytes) -> bytes | None:
    """Return an answer to a query with one question; only IPv4 addresses are known (RFC 1035, section 4)."""
    labels, at = [], 12
    while at < len(query) and (length := query[at]):
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    name, end = ".".join(labels), at + 5
    if len(query) < end:
        return None
    server.asked.append((protocol, asker, name))
    (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
    count = 0 if kind != 1 else MANY if name.startswith("many") else 1
    record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 0, 4, socket.inet_aton(server.address))
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0)
    if count < MANY:
        return head + query[12:end] + record * count
    records = [record[:-1] + bytes([number]) for number in range(count)]
    return head + query[12:end] + b"".join(records)


def _truncated(answer: bytes) -> bytes:
    """Return the answer without its records, and with the bit that says so."""
    end = answer.index(b"\0", 12) + 5
    return answer[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + answer[12:end]
