"""The host's name servers, and asking them for a guest.

A guest asks 10.0.2.3. Where its packets can reach the host's name server themselves, they do (network/rules.py).
Where they cannot, since it is on the host's loopback as systemd-resolved and dnsmasq are, or has an IPv6 address, or
the guest has a user network, this process asks for it: bytes in, bytes out, never looked into beyond the header that
every DNS message begins with (RFC 1035, section 4.1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from emberbox.byte_streams import ByteStream, SocketStream, join, listen_with

log = logging.getLogger(__name__)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
SYSTEMD_UPSTREAMS: Final = Path("/run/systemd/resolve/resolv.conf")
_SYSTEMD_STUBS: Final = frozenset({"127.0.0.53", "127.0.0.54"})

SERVERS_MAX: Final = 3  # as many as resolv.conf(5) lets count
ANSWER_TIMEOUT_S: Final = 3.0
QUERIES_MAX: Final = 32
QUERIES_PER_S: Final = 200
CONNECTIONS_MAX: Final = 4
CONNECTION_TIMEOUT_S: Final = 30.0
QUERY_BYTES_MAX: Final = 4096

_PORT: Final = 53
_HEADER_BYTES: Final = 12
_SERVFAIL, _REFUSED = 2, 5


def read_servers(resolv_conf: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Return the name servers that a file names; as the C library does, one on the loopback where it names none."""
    found = []
    with contextlib.suppress(OSError):
        for line in resolv_conf.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and _is_address(words[1]):
                found.append(words[1])
    return tuple(found[:SERVERS_MAX]) or ("127.0.0.1",)


def find_direct_server(resolv_conf: Path = RESOLV_CONF, upstreams: Path = SYSTEMD_UPSTREAMS) -> str | None:
    """Return the first name server of the host that packets of guests can be sent to, if there is one.

    It has an IPv4 address, and not one of the host itself: those are closed to guests. systemd-resolved, which listens
    on loopback only, says in a file of its own whom it asks.
    """
    servers = read_servers(resolv_conf)
    if not _SYSTEMD_STUBS.isdisjoint(servers):
        servers += read_servers(upstreams)
    return next(filter(_is_reachable, servers), None)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_reachable(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address.version == 4 and not address.is_loopback and not address.is_unspecified and not _is_own(text)


def _is_own(address: str) -> bool:
    """Say whether an IPv4 address is one of this host's: only such can be bound to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class NameRelay:
    """Asks name servers for one guest. Datagrams beyond the bounds are dropped, connections closed.

    Args:
        servers: returns who is asked, asked itself for every query as it may change; nobody: everything is refused.
        port: theirs.
    """

    def __init__(self, servers: Callable[[], Sequence[str]], port: int = _PORT) -> None:
        self._servers = servers
        self._port = port
        self._under_way = 0
        self._connections = 0
        self._allowance = float(QUERIES_PER_S)
        self._counted_at = 0.0

    async def answer(self, query: bytes) -> bytes | None:
        """Return the answer to a datagram: a name server's, or that there is none; None leaves it unanswered."""
        if not _HEADER_BYTES <= len(query) <= QUERY_BYTES_MAX or self._under_way >= QUERIES_MAX or not self._allow():
            return None
        self._under_way += 1
        try:
            servers = self._servers()
            for server in servers:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        return await _ask(server, self._port, query)
            return _refuse(query, _SERVFAIL if servers else _REFUSED)
        finally:
            self._under_way -= 1

    def _allow(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._allowance = min(self._allowance + (now - self._counted_at) * QUERIES_PER_S, QUERIES_PER_S)
        self._counted_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def serve(self, stream: ByteStream) -> None:
        """Carry a TCP connection of the guest to a name server, and close it."""
        if self._connections >= CONNECTIONS_MAX:
            stream.close()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT_S):
                server = await self._connect()
                if server is not None:
                    await join(stream, server)
        except TimeoutError:
            pass
        finally:
            self._connections -= 1
            stream.close()

    async def _connect(self) -> SocketStream | None:
        for server in self._servers():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return SocketStream(*await asyncio.open_connection(server, self._port))
        return None


class _Question(asyncio.DatagramProtocol):
    """One datagram to a name server, from a port of its own, so that nobody can guess where the answer goes."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # typeshed's
        transport.sendto(self._query)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's shape
        if len(data) >= _HEADER_BYTES and data[:2] == self._query[:2] and not self.answered.done():
            self.answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)


async def _ask(server: str, port: int, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, question = await loop.create_datagram_endpoint(lambda: _Question(query), remote_addr=(server, port))
    try:
        return await question.answered
    finally:
        transport.close()


def _refuse(query: bytes, code: int) -> bytes:
    """Return the query as an answer with an error code: whoever asked need not wait for its own time to be over."""
    return query[:2] + bytes([query[2] & 0x79 | 0x80, code]) + query[4:]


class _Datagrams(asyncio.DatagramProtocol):
    """The datagrams that come to a socket, answered by a relay."""

    def __init__(self, relay: NameRelay) -> None:
        self._relay = relay
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # typeshed's
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self._tasks) < QUERIES_MAX:
            task = asyncio.create_task(self._answer(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self._relay.answer(data)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.close()


class NameListener:
    """Sockets at which a relay answers; made by `open`, the owner calls `close`."""

    def __init__(self, datagrams: _Datagrams, server: asyncio.Server) -> None:
        self._datagrams = datagrams
        self._server = server

    @classmethod
    async def open(cls, datagram: socket.socket, stream: socket.socket, relay: NameRelay) -> NameListener:
        """Answer at a UDP socket and a TCP socket, both bound; they are this object's from now on."""
        loop = asyncio.get_running_loop()
        _, datagrams = await loop.create_datagram_endpoint(lambda: _Datagrams(relay), sock=datagram)
        return cls(datagrams, await listen_with(stream, relay.serve))

    def close(self) -> None:
        """Stop; repeats are harmless. A connection that is open ends by its own time limit."""
        self._datagrams.close()
        self._server.close()
