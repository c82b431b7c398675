"""A port of this machine that leads to a port of a microVM: whichever is shown to it at the time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from emberbox.model.errors import HostError

if TYPE_CHECKING:
    from emberbox_sdk import AsyncPort

HOST: Final = "127.0.0.1"
_HEAD_BYTES_MAX: Final = 64 << 10
_CHUNK_BYTES: Final = 64 << 10
_END: Final = b"\r\n\r\n"
_LEFT_OUT: Final = re.compile(rb"^(host|connection|keep-alive|x-aws-proxy-[a-z-]*)\s*:", re.IGNORECASE)
_HOST: Final = re.compile(
    rb"^host\s*:\s*(?:127\.0\.0\.1|\[::1\]|(?:[a-z0-9.-]+\.)?localhost)(?::\d+)?\s*$", re.IGNORECASE
)
"""This machine, by names that are nobody else's: a page of another site must not get in by a name of its own."""

_UPGRADE: Final = re.compile(rb"^connection\s*:.*\bupgrade\b", re.IGNORECASE)


class LocalPort:
    """Passes requests on: HTTP/1.1, one for each connection, and whatever a connection is upgraded to.

    Attributes:
        target: where to; None while there is nothing.

    Args:
        gateway: host and port of the gateway.
        tls: trusts it.
    """

    def __init__(self, gateway: tuple[str, int], tls: ssl.SSLContext) -> None:
        self.target: AsyncPort | None = None
        self._gateway = gateway
        self._tls = tls
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[int]:
        """Listen for as long as the block lasts; give the port, which is a free one for 0.

        Raises:
            HostError: the port is taken.
        """
        try:
            server = await asyncio.start_server(self._take, HOST, port, limit=_HEAD_BYTES_MAX)
        except OSError as error:
            raise HostError(
                f"port {port} of {HOST} cannot be had: {error.strerror}; choose another by --port"
            ) from error
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(_END)
            if not is_for_here(head):
                writer.write(
                    _refuse("421 Misdirected Request", f"only {HOST}, [::1] and names of localhost are answered")
                )
            elif self.target is None:
                writer.write(_refuse("503 Service Unavailable", "nothing runs yet"))
            else:
                await self._pass_on(self.target, head, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the client has left, or speaks no HTTP
        except OSError as error:
            with contextlib.suppress(OSError):
                writer.write(_refuse("502 Bad Gateway", f"the gateway does not answer: {error}"))
        finally:
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()

    async def _pass_on(
        self, target: AsyncPort, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        headers = await target.headers()
        host, port = self._gateway
        answer, request = await asyncio.open_connection(host, port, ssl=self._tls)
        try:
            request.write(rewrite(head, headers | {"host": target.public_url.removeprefix("https://").rstrip("/")}))
            ways = [asyncio.create_task(_copy(reader, request)), asyncio.create_task(_copy(answer, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            with contextlib.suppress(OSError, ssl.SSLError):
                request.close()
                await request.wait_closed()


def is_for_here(head: bytes) -> bool:
    """Say whether the head of a request names this machine, and nothing else."""
    hosts = [line for line in head.split(b"\r\n")[1:] if line[:5].lower() == b"host:"]
    return len(hosts) == 1 and _HOST.match(hosts[0]) is not None


def rewrite(head: bytes, headers: dict[str, str]) -> bytes:
    """Return the head of a request with other headers: its connection ends with the answer, unless it is upgraded.

    Args:
        head: with the empty line at its end.
        headers: added; those that they replace are left out.
    """
    first, *lines = head.removesuffix(_END).split(b"\r\n")
    upgrades = any(map(_UPGRADE.match, lines))
    kept = [line for line in lines if not _LEFT_OUT.match(line)]
    added = [f"{name}: {value}".encode() for name, value in headers.items()]
    connection = b"connection: upgrade" if upgrades else b"connection: close"
    return b"\r\n".join([first, *kept, *added, connection]) + _END


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until there is no more, or nobody takes it."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _refuse(status: str, text: str) -> bytes:
    content = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
