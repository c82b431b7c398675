"""Serving an ASGI application inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emberbox.edges.connection_guard import ConnectionGuard, GuardedProtocol, GuardLimits
from emberbox.model.errors import HostError

CLIENTS_KEEP_ALIVE_S: Final = 75
"""How long a client's connection may be idle."""


class _Server(uvicorn.Server):
    """Uvicorn inside an event loop that is not its own: signals are the business of whoever owns the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield


class _Gathering:
    """A transport that writes in one piece what is said in one turn of the event loop: an answer's head and body.

    A server that is killed between the two would leave a client with a head alone, and botocore takes that for an
    empty success.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._said: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._said:
            asyncio.get_running_loop().call_soon(self._flush)
        self._said.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        said, self._said = self._said, []
        if said and not self._transport.is_closing():
            self._transport.write(b"".join(said))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Gathering(transport))  # type: ignore[arg-type]


class _GuardedProtocol(GuardedProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Gathering(transport))


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Bind a port; 0 takes a free one.

    Raises:
        HostError: it is taken; the text names the setting that says which port it is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits for a delayed ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise HostError(f"port {port} of {host} is taken ({error.strerror}); set {setting}") from error
    return listener


@contextlib.contextmanager
def listen_at(socket_path: Path) -> Iterator[socket.socket]:
    """Bind a Unix socket of ours; its path goes with the block.

    Raises:
        HostError: it cannot be bound.
    """
    socket_path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(socket_path))
        except OSError as error:
            raise HostError(f"no server can listen on {socket_path}: {error}") from error
        try:
            yield listener
        finally:
            socket_path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def serve(
    app: Any,
    listener: socket.socket,
    keep_alive_s: int,
    *,
    limits: GuardLimits | None = None,
    websocket_message_bytes: int | None = None,
) -> AsyncIterator[None]:
    """Serve an application on a listening socket for as long as the block lasts.

    Args:
        app: the ASGI application.
        listener: a bound socket; it is closed at the end.
        keep_alive_s: seconds after which an idle connection is closed.
        limits: what clients may hold; None where whoever connects is one of us.
        websocket_message_bytes: serve WebSockets too, with messages of at most so many bytes.

    Raises:
        HostError: the server does not start.
    """
    guard = None if limits is None else ConnectionGuard(limits)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=_Protocol if guard is None else functools.partial(_GuardedProtocol, guard),  # type: ignore[arg-type]
        lifespan="off",
        ws="none" if websocket_message_bytes is None else "websockets-sansio",
        ws_max_size=websocket_message_bytes or 0,
        ws_ping_interval=None,  # a ping would be activity on a connection that is silent
        ws_per_message_deflate=False,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=1,  # requests held for a microVM that resumes do not hold us
        backlog=4096,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                raise HostError(f"a server cannot listen on {listener.getsockname()}") from task.exception()
            await asyncio.sleep(0.005)
        async with contextlib.nullcontext() if guard is None else guard.watch():
            yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
