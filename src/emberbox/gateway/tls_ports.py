"""Which ports of guests speak TLS: asked once with a ClientHello, as the AWS service asks.

    ClientHello ──► a TLS record comes back ──► TLS
                └─► anything else, a hang-up, or silence ──► clear text

A microVM that was resumed runs the same processes, so what was found lasts until it ends or a connection fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

_PROBE_TIMEOUT_S: Final = 2.0
_PATIENCE_S: Final = 0.5
# The first byte of a server's answer to a ClientHello: a handshake message or an alert (RFC 8446, section 5.1).
_TLS_RECORDS: Final = (b"\x16", b"\x15")
_KNOWN_PORTS: Final = 65_536


class TlsPorts:
    """Remembers by microVM and port what was found; asks once however many requests wait for the answer."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], asyncio.Future[bool]] = {}

    async def speaks_tls(self, microvm_id: str, port: int, address: tuple[str, int]) -> bool:
        """Say whether a guest's port speaks TLS.

        Args:
            microvm_id: whose port it is.
            port: the guest's port.
            address: where that port is reached from here.
        """
        key = (microvm_id, port)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = asyncio.ensure_future(_probe(address))
            if len(self._known) > _KNOWN_PORTS:
                del self._known[next(iter(self._known))]
        return await asyncio.shield(known)

    def forget(self, microvm_id: str, port: int) -> None:
        """Ask again at the next request: a connection to this port has failed."""
        self._known.pop((microvm_id, port), None)


async def _probe(address: tuple[str, int]) -> bool:
    """Send a ClientHello and look at the first byte of the answer; the handshake is not finished."""
    first = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(_client_hello())
                first = await _read_first_byte(reader, writer)
            finally:
                writer.transport.abort()
    return first in _TLS_RECORDS


async def _read_first_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """A server that waits for more than a ClientHello is told that nothing more comes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            return await reader.read(1)
    writer.write_eof()
    return await reader.read(1)


def _client_hello() -> bytes:
    """Make the first message of a TLS client that trusts anybody and speaks both kinds of HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()
