"""The streams of one connection to a guest's agent: those that the host opened, and those that the guest did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from emberbox.guest.protocol import GUEST_STREAMS, GUEST_STREAMS_MAX, Frame, FrameType, encode_u32
from emberbox.guest.streams import GuestStream, StreamState
from emberbox.guest.wire import Wire
from emberbox.model.errors import GuestError

_SERVED_MAX = 64  # those that the guest has closed may still be answered here

StreamHandler = Callable[[GuestStream], Coroutine[Any, Any, None]]  # Any: a coroutine's other types say nothing here
"""Answers one connection that somebody in the guest made to a service of the host's, and closes it."""


class StreamTable:
    """Finds the stream of each frame; the channel of them all.

    Args:
        wire: what is sent goes there; what comes for a stream is brought to `take`.

    Attributes:
        serving: the tasks that answer the guest's connections; whoever ends the connection cancels them.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._streams: dict[int, StreamState] = {}
        self._next_stream = 1
        self._accepted: dict[int, tuple[int, GuestStream]] = {}
        self._services: dict[int, StreamHandler] = {}
        self.serving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    # --- the channel

    def send(self, frame: Frame) -> None:
        """Queue a frame; those with much in them only right after `drain`."""
        self._wire.send(frame)

    async def drain(self) -> None:
        """Wait until there is room for a frame."""
        await self._wire.drain()

    def forget_stream(self, stream_id: int) -> None:
        """Close a stream on both sides; repeats are harmless."""
        if self._streams.pop(stream_id, None) is not None:
            self.send(Frame(FrameType.CLOSE, stream_id, encode_u32(0)))

    # --- those that the host opens

    async def open(self, kind: FrameType, payload: bytes, what: str, timeout_s: float) -> tuple[int, StreamState]:
        """Open a stream.

        Args:
            kind: of the frame that asks for it.
            payload: of that frame.
            what: what is opened, for messages.
            timeout_s: how long it may take, in seconds.

        Returns:
            Its id and its state.

        Raises:
            ConnectionRefusedError: the guest refuses it.
            GuestError: the agent is gone, or no answer came in time.
        """
        self._wire.check_connected()
        stream_id = self._next_stream
        self._next_stream = stream_id % (GUEST_STREAMS - 1) + 1
        state = StreamState(asyncio.get_running_loop().create_future())
        self._streams[stream_id] = state
        try:
            async with asyncio.timeout(timeout_s):
                await self.drain()
                self.send(Frame(kind, stream_id, payload))
                await state.opened
        except TimeoutError:
            self.forget_stream(stream_id)
            raise GuestError(f"{what} did not answer within {timeout_s:g} s") from None
        except ConnectionRefusedError:
            self._wire.check_connected()
            raise
        except BaseException:  # cancelled: nobody else knows of the stream
            self.forget_stream(stream_id)
            raise
        return stream_id, state

    # --- those that the guest opens

    def accept(self, stream_id: int, port: int) -> None:
        """Take a stream that the guest opened to a service.

        Raises:
            GuestError: it has no right to it.
        """
        if stream_id < GUEST_STREAMS or stream_id in self._streams:
            raise GuestError("the guest opened a stream with an id that is not its to take")
        if sum(taken >= GUEST_STREAMS for taken in self._streams) >= GUEST_STREAMS_MAX:
            raise GuestError("the guest opened more streams than it may")
        opened = asyncio.get_running_loop().create_future()
        opened.set_result(None)
        state = self._streams[stream_id] = StreamState(opened, is_open=True)
        if len(self._accepted) + len(self.serving) >= _SERVED_MAX:
            self.forget_stream(stream_id)  # it closes its streams more quickly than we see it
            return
        self._accepted[stream_id] = (port, GuestStream(self, stream_id, state))
        self._serve_waiting()

    def serve(self, port: int, handler: StreamHandler) -> None:
        """Let `handler` answer the connections to a service, those that wait already first."""
        self._services[port] = handler
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        for stream_id, (port, stream) in list(self._accepted.items()):
            if handler := self._services.get(port):
                del self._accepted[stream_id]
                task = asyncio.create_task(handler(stream))
                self.serving.add(task)
                task.add_done_callback(self.serving.discard)

    # --- what comes

    def take(self, frame: Frame) -> None:
        """Take a frame for a stream; one for a stream that is closed on our side was under way.

        Raises:
            GuestError: the guest does not keep the protocol.
        """
        stream = self._streams.get(frame.stream)
        if stream is None:
            return
        stream.take(frame)
        if frame.type is FrameType.CLOSE:
            del self._streams[frame.stream]
            self._accepted.pop(frame.stream, None)

    def end_all(self, error: int) -> None:
        """End every stream with an error number; the guest is told nothing."""
        for stream in self._streams.values():
            stream.end(error)
        self._streams.clear()
        self._accepted.clear()
