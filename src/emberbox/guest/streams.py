"""The host's ends of an agent's streams: connections to ports in the guest, and commands in its container."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Protocol

from emberbox.guest.chunks import Chunks, Received
from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    STREAM_WINDOW_BYTES,
    Frame,
    FrameType,
    Place,
    decode_place,
    decode_u32,
    encode_size,
    encode_u32,
)
from emberbox.model.errors import GuestError

STDOUT, STDERR = 1, 2


@dataclass
class StreamState:
    """What is known of one stream; its agent feeds it with the frames that come."""

    opened: asyncio.Future[None]
    is_open: bool = False
    chunks: Chunks = field(default_factory=Chunks)
    has_ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    credit: int = STREAM_WINDOW_BYTES
    credit_changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: int | None = None
    exit_code: int | None = None
    place: Place = Place.LOOPBACK

    def take(self, frame: Frame) -> None:
        """Note what a frame says.

        Raises:
            GuestError: the guest does not keep the protocol. What changes nothing is not kept either: a guest could
                send it without end.
        """
        match frame.type:
            case FrameType.OPENED:
                _check(not self.is_open and self.error is None, "opened a stream twice")
                self.place, self.is_open = decode_place(frame.payload), True
                if not self.opened.done():  # else whoever asked for it gives up just now
                    self.opened.set_result(None)
            case FrameType.DATA:
                self._take_data(STDOUT, frame.payload)
            case FrameType.ERROR_DATA:
                self._take_data(STDERR, frame.payload)
            case FrameType.EOF:
                _check(not self.has_ended, "ended a stream twice")
                self._end()
            case FrameType.EXEC_EXITED:
                _check(self.exit_code is None, "ended a command twice")
                self.exit_code = decode_u32(frame.payload)
            case FrameType.WINDOW:
                self._take_credit(decode_u32(frame.payload))
            case FrameType.CLOSE:
                self.end(decode_u32(frame.payload))
            case _:
                raise GuestError(f"the guest sent {frame.type.name}, which is the host's to send")

    def _take_data(self, which: int, data: bytes) -> None:
        _check(bool(data), "sent data of no bytes")
        _check(not self.has_ended, "sent data behind a stream's end")
        _check(self.chunks.bytes + len(data) <= STREAM_WINDOW_BYTES, "overran a stream's window")
        self.chunks.put(which, data)
        self.changed.set()

    def _take_credit(self, more: int) -> None:
        _check(0 < more <= STREAM_WINDOW_BYTES - self.credit, "gave more window than it had taken")
        self.credit += more
        self.credit_changed.set()

    def _end(self) -> None:
        self.has_ended = True
        self.changed.set()

    def end(self, error: int) -> None:
        """Wake everyone who waits: nothing more will come."""
        self.error = error
        self._end()
        self.credit_changed.set()
        if not self.opened.done():
            self.opened.set_exception(
                ConnectionRefusedError(error, f"the guest's port is closed: {os.strerror(error)}")
            )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise GuestError(f"the guest {otherwise}")


class Channel(Protocol):
    """What a stream needs of its agent."""

    def send(self, frame: Frame) -> None:
        """Queue a frame; those with much in them only right after `drain`."""
        ...

    async def drain(self) -> None:
        """Wait until there is room for a frame."""
        ...

    def forget_stream(self, stream_id: int) -> None:
        """Close a stream on both sides; repeats are harmless."""
        ...


class _Stream:
    """What connections and commands have in common."""

    def __init__(self, channel: Channel, stream_id: int, state: StreamState) -> None:
        self._channel = channel
        self._id = stream_id
        self._state = state

    async def _receive(self) -> Received | None:
        """Return what has come; None at the end, again and again."""
        while (received := self._state.chunks.take()) is None:
            if self._state.has_ended:
                return None
            self._state.changed.clear()
            await self._state.changed.wait()
        if not self._state.has_ended:
            self._channel.send(Frame(FrameType.WINDOW, self._id, encode_u32(len(received[1]))))
        return received

    async def write(self, data: bytes) -> None:
        """Send `data`, waiting while the guest's window is full.

        Raises:
            GuestError: the other side is gone.
        """
        while data:
            if self._state.error is not None:
                raise GuestError("the connection in the guest is closed")
            if not self._state.credit:
                self._state.credit_changed.clear()
                await self._state.credit_changed.wait()
                continue
            await self._channel.drain()
            part = data[: min(FRAME_PAYLOAD_MAX, self._state.credit)]
            if not part or self._state.error is not None:
                continue  # another writer was first, or the stream has ended meanwhile
            self._state.credit -= len(part)
            self._channel.send(Frame(FrameType.DATA, self._id, part))
            data = data[len(part) :]

    def close(self) -> None:
        """Drop it; repeats are harmless. A command is hung up, as by a terminal that is unplugged."""
        self._channel.forget_stream(self._id)


class GuestStream(_Stream):
    """A byte stream to a TCP port in the guest; made by `Agent.open_stream`."""

    @property
    def place(self) -> Place:
        """The address of the guest that took the connection."""
        return self._state.place

    async def read(self) -> bytes:
        """Return what has come, or b"" at the end.

        Raises:
            GuestError: the connection broke.
        """
        received = await self._receive()
        if received is not None:
            return received[1]
        if self._state.error:
            raise GuestError(f"the connection in the guest broke: {os.strerror(self._state.error)}")
        return b""

    def end_output(self) -> None:
        """Say that nothing more will be written; what was written still arrives."""
        self._channel.send(Frame(FrameType.EOF, self._id))


class GuestCommand(_Stream):
    """A command that runs in the application's container; made by `Agent.open_command`.

    It ends when its process ends: what children of it still write afterwards is not waited for.
    """

    async def read(self) -> Received | None:
        """Return `STDOUT` or `STDERR` and what was written there, or None when the command has ended.

        Raises:
            GuestError: the guest was suspended, or is gone.
        """
        received = await self._receive()
        if received is None and self._state.exit_code is None:
            raise GuestError("the connection to the command broke: the microVM was suspended or has ended")
        return received

    @property
    def exit_code(self) -> int:
        """The exit code, 128 + n after signal n; known once `read` has returned None."""
        assert self._state.exit_code is not None
        return self._state.exit_code

    def end_input(self) -> None:
        """Close its standard input; a terminal has no such end."""
        self._channel.send(Frame(FrameType.EOF, self._id))

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self._channel.send(Frame(FrameType.SIGNAL, self._id, encode_u32(number)))

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal; each number is below 65536."""
        self._channel.send(Frame(FrameType.RESIZE, self._id, encode_size(columns, rows)))
