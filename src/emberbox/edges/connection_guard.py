"""Bounds for clients that nobody knows yet: what a server of uvicorn's lets them hold.

Uvicorn waits for the rest of a request for ever, and takes a head of any length. Here a request has to come in time,
its head has a limit, connections have a number, and when that is reached the ones make room that say least.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

_PIPELINED_MAX = 16
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What the clients of a server may hold.

    Args:
        connections: at a time.
        head_bytes: what may come before a request's head is complete, or at once between the parts of its body.
        head_s: seconds for a request's head, from its first byte, and for the first byte of a connection.
        request_s: seconds for all of a request.
        answer_s: seconds in which a client takes nothing of what is sent to it.
        sweep_s: seconds between looks at the clock.
    """

    connections: int = 2048
    head_bytes: int = 256 << 10
    head_s: float = 10.0
    request_s: float = 75.0
    answer_s: float = 60.0
    sweep_s: float = 1.0


UPLOAD_LIMITS: Final = GuardLimits(request_s=3600.0)
"""Where files of any size are taken."""


class ConnectionGuard:
    """Knows the connections of one server.

    Args:
        limits: see there.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self._connections: set[GuardedProtocol] = set()
        self._waiting: dict[GuardedProtocol, None] = {}  # for a request or the rest of one; the longest ones first
        self._slow_since: dict[GuardedProtocol, float] = {}

    def admit(self, connection: GuardedProtocol) -> bool:
        """Count a new connection; False when there is no room for it, as every other one has a request under way."""
        if len(self._connections) >= self.limits.connections:
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.abort()
        self._connections.add(connection)
        self._waiting[connection] = None
        return True

    def leave(self, connection: GuardedProtocol) -> None:
        """Count a connection no more; repeats are harmless."""
        self._connections.discard(connection)
        self._waiting.pop(connection, None)
        self._slow_since.pop(connection, None)

    def note_request(self, connection: GuardedProtocol) -> None:
        """A whole request has come: its connection is in use until it is answered."""
        self._waiting.pop(connection, None)

    def note_answer(self, connection: GuardedProtocol) -> None:
        """A request was answered: its connection waits again."""
        if connection in self._connections:
            self._waiting[connection] = None

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Close what takes too long, for as long as the block lasts."""
        task = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep_s)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                if connection.is_late(now) or self._takes_nothing(connection, now):
                    connection.abort()

    def _takes_nothing(self, connection: GuardedProtocol, now: float) -> bool:
        if not connection.unsent_bytes():
            self._slow_since.pop(connection, None)
            return False
        return now - self._slow_since.setdefault(connection, now) > self.limits.answer_s


class GuardedProtocol(HttpToolsProtocol):
    """One connection to a server of uvicorn's.

    Args:
        guard: knows it.
        options: for uvicorn's protocol.
    """

    def __init__(self, guard: ConnectionGuard, **options: Any) -> None:
        super().__init__(**options)
        self._guard = guard
        self._since: float | None = None  # when what is incomplete began; None: a request is complete, or none began
        self._has_head = False
        self._unread = 0

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if not self._guard.admit(self):
            transport.write(_TOO_MANY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._guard.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes: a piece of a head must come to something."""
        if self._since is None:
            self._since = self.loop.time()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > self._guard.limits.head_bytes and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._has_head, self._unread = True, 0
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("too many requests at once")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body has come."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of a request has come."""
        self._since, self._has_head, self._unread = None, False, 0
        self._guard.note_request(self)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """It is a WebSocket from now on: who serves those says how many there may be."""
        self._guard.leave(self)
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """It was answered. What is read of it afterwards, if the answer came before all of it, counts as waiting."""
        self._guard.note_answer(self)
        super().on_response_complete()

    def is_late(self, now: float) -> bool:
        """Say whether a request takes too long to come."""
        if self._since is None or self.pipeline:
            return False
        limits = self._guard.limits
        return now - self._since > (limits.request_s if self._has_head else limits.head_s)

    def unsent_bytes(self) -> int:
        """Return how many bytes the client has not taken yet."""
        return 0 if self.transport.is_closing() else int(self.transport.get_write_buffer_size())

    def abort(self) -> None:
        """End it at once."""
        self.transport.abort()
