"""Which ports of guests speak TLS: known from the build of the image, or else asked once.

A microVM that was resumed runs the same processes, as does one that was launched from a snapshot in which something
listened at the port already. So what was found lasts until the microVM ends or a connection fails; then it is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from emberbox.guest.tls import PROBE_TIMEOUT_S, answers_in_tls, client_hello

_KNOWN_PORTS: Final = 65_536


class TlsPorts:
    """Remembers by microVM and port what was found; asks once however many requests wait for the answer."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], asyncio.Future[bool]] = {}
        self._doubtful: dict[tuple[str, int], None] = {}

    async def speaks_tls(
        self, microvm_id: str, port: int, address: tuple[str, int], at_build: bool | None = None
    ) -> bool:
        """Say whether a guest's port speaks TLS.

        Args:
            microvm_id: whose port it is.
            port: the guest's port.
            address: where that port is reached from here.
            at_build: what was found when its image was built, if something listened there then.
        """
        key = (microvm_id, port)
        if at_build is not None and key not in self._doubtful:
            return at_build
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = asyncio.ensure_future(_probe(address))
            if len(self._known) > _KNOWN_PORTS:
                del self._known[next(iter(self._known))]
        return await asyncio.shield(known)

    def forget(self, microvm_id: str, port: int) -> None:
        """Ask again at the next request: a connection to this port has failed."""
        self._known.pop((microvm_id, port), None)
        self._doubtful[microvm_id, port] = None
        if len(self._doubtful) > _KNOWN_PORTS:
            del self._doubtful[next(iter(self._doubtful))]


async def _probe(address: tuple[str, int]) -> bool:
    """Send a ClientHello and look at the first byte of the answer; the handshake is not finished."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(client_hello())
                return await answers_in_tls(lambda: reader.read(1), writer.write_eof)
            finally:
                writer.transport.abort()
    return False
