"""Does a port of a guest speak TLS? Asked with a ClientHello, as the AWS service asks.

ClientHello ──► a TLS record comes back ──► TLS
            └─► anything else, a hang-up, or silence ──► clear text
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from emberbox.guest.agent import Agent
from emberbox.model.errors import GuestError
from emberbox.time_limits import limit_s

PROBE_TIMEOUT_S: Final = limit_s(2.0)
_PATIENCE_S: Final = limit_s(0.5)
# The first byte of a server's answer to a ClientHello: a handshake message or an alert (RFC 8446, section 5.1).
_TLS_RECORDS: Final = (b"\x16", b"\x15")


async def answers_in_tls(read: Callable[[], Awaitable[bytes]], end_output: Callable[[], None]) -> bool:
    """Say whether what answers a ClientHello is TLS.

    Args:
        read: returns what has come on the connection that `client_hello` was sent on, nothing at its end.
        end_output: tells a server that waits for more than a ClientHello that nothing more comes.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            return (await read())[:1] in _TLS_RECORDS
    end_output()
    return (await read())[:1] in _TLS_RECORDS


def client_hello() -> bytes:
    """Make the first message of a TLS client that trusts anybody and speaks both kinds of HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


async def find_tls(agent: Agent, port: int) -> bool | None:
    """Say whether a port of a guest speaks TLS; None when nothing listens there, or it cannot be told."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            stream = await agent.open_stream(port, PROBE_TIMEOUT_S)
            try:
                await stream.write(client_hello())
                return await answers_in_tls(stream.read, stream.end_output)
            finally:
                stream.close()
    except (OSError, TimeoutError, GuestError):
        return None
