"""Two byte streams joined: what comes out of one goes into the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from emberbox.model.errors import GuestError

_READ_BYTES: Final = 65_536
_NO_LINGERING: Final = struct.pack("ii", 1, 0)  # struct linger


class ByteStream(Protocol):
    """One end of a stream; what fails raises OSError or GuestError."""

    async def read(self) -> bytes:
        """Return what has come, nothing at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send, waiting while there is no room."""
        ...

    def end_output(self) -> None:
        """Say that nothing more will be written."""
        ...

    def close(self) -> None:
        """Drop it; repeats are harmless."""
        ...


class SocketStream:
    """A TCP connection of this process as such a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return what has come, nothing at the end."""
        return await self._reader.read(_READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Send, waiting while there is no room."""
        self._writer.write(data)
        await self._writer.drain()

    def end_output(self) -> None:
        """Say that nothing more will be written."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def flush(self) -> None:
        """Wait until the other side has taken everything, and close."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """Drop it with what has not been taken yet: the other side sees a reset, and takes it for no end."""
        connection = self._writer.get_extra_info("socket")  # None where the transport has closed it
        with contextlib.suppress(OSError):  # it is closed already
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self._writer.transport.abort()


async def listen_with(listener: socket.socket, serve: Callable[[SocketStream], Awaitable[None]]) -> asyncio.Server:
    """Let `serve` answer the connections of a bound socket, which is the server's from now on."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(SocketStream(reader, writer))

    return await asyncio.start_server(accept, sock=listener)


async def join(one: ByteStream, other: ByteStream) -> None:
    """Carry bytes both ways until both have ended or either breaks; then both are closed."""
    try:
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_carry(one, other))
            ways.create_task(_carry(other, one))
        for stream in (one, other):
            if isinstance(stream, SocketStream):
                await stream.flush()
    except* (OSError, GuestError):
        pass  # the other side learns it by the close
    finally:
        one.close()
        other.close()


async def _carry(source: ByteStream, destination: ByteStream) -> None:
    while data := await source.read():
        await destination.write(data)
    destination.end_output()
