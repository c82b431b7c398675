"""What a guest asks its name server, in datagrams."""

from __future__ import annotations

import asyncio
from typing import Protocol

from emberbox.guest.protocol import Frame, FrameType
from emberbox.guest.streams import GuestStream
from emberbox.guest.wire import Wire

_QUERIES_MAX = 32  # as many as the guest's agent remembers


class NameServer(Protocol):
    """Answers what a guest asks its name server, bounded; it never raises."""

    async def answer(self, query: bytes) -> bytes | None:
        """Return the answer to a datagram; None leaves it unanswered."""
        ...

    async def serve(self, stream: GuestStream) -> None:
        """Answer a connection and close it."""
        ...


class Queries:
    """Has a guest's queries answered.

    Args:
        wire: the answers go there.

    Attributes:
        names: who answers; None drops them.
        answering: the tasks that do; whoever ends the connection cancels them.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.names: NameServer | None = None
        self.answering: set[asyncio.Task[None]] = set()

    def take(self, frame: Frame) -> None:
        """Have a query answered; what is too much is dropped, as datagrams are."""
        if self.names is not None and len(self.answering) < _QUERIES_MAX:
            task = asyncio.create_task(self._answer(self.names, frame))
            self.answering.add(task)
            task.add_done_callback(self.answering.discard)

    async def _answer(self, names: NameServer, query: Frame) -> None:
        answer = await names.answer(query.payload)
        if answer is not None:
            await self._wire.drain()
            self._wire.send(Frame(FrameType.ANSWER, query.stream, answer))
