"""A connection to one guest's agent: requests, the application's output, and streams to its ports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    GUEST_STREAMS,
    HEADER_BYTES,
    NONCE_BYTES,
    PROTOCOL_VERSION,
    Application,
    Command,
    Frame,
    FrameType,
    Identity,
    decode_header,
    decode_u32,
    encode,
    encode_application,
    encode_command,
    encode_identity,
    encode_port,
    encode_u32,
)
from emberbox.guest.streams import STDERR, STDOUT, GuestCommand, GuestStream, StreamState
from emberbox.model.errors import GuestError, StartError
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

ENTROPY_BYTES = 64
_SCAN_LIMIT = 1 << 22
_COMMANDS_SINCE = 2
_REHEARSALS_SINCE = 3
_SPARES_SINCE = 4
_ACCEPTED_MAX = 64  # the guest's agent holds 32 at a time; those that it has closed may still be answered here
_NO_COMMAND = {
    errno.EMFILE: "64 run already",
    errno.EAGAIN: "it is being suspended",
    errno.ESRCH: "its application has ended",
}
_HELLO_INTERVAL_S = 0.25

OutputListener = Callable[[int, bytes], None]
"""Called with `STDOUT` or `STDERR` and the bytes that the application wrote."""

StreamHandler = Callable[[GuestStream], Coroutine[Any, Any, None]]
"""Answers one connection that somebody in the guest made to the metadata address, and closes it."""


def fresh_identity(hostname: str | None = None, machine_id: str | None = None) -> Identity:
    """Return an identity with the time of now and new entropy."""
    return Identity(time.time_ns(), secrets.token_bytes(ENTROPY_BYTES), hostname, machine_id)


class Agent:
    """One connected agent. Made by `connect`; the owner calls `close`.

    Requests of the same kind must not overlap: there is one driver per microVM.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_output: OutputListener) -> None:
        self._reader = reader
        self._writer = writer
        self._on_output = on_output
        self._replies: asyncio.Queue[Frame] = asyncio.Queue()
        self._unanswered = 0
        self._streams: dict[int, StreamState] = {}
        self._next_stream = 1
        self._task: asyncio.Task[None] | None = None
        self._failure: GuestError | None = None
        self._version = 0
        self._accepted: dict[int, GuestStream] = {}
        self._serve: StreamHandler | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Set to the exit code when the application's main process ends."""
        self.lost: asyncio.Future[GuestError] = asyncio.get_running_loop().create_future()
        """Set to the reason when the connection has ended though nobody closed it."""

    @classmethod
    async def connect(cls, path: Path, on_output: OutputListener, timeout_s: float) -> Agent:
        """Connect to the agent behind a Unix socket and shake hands.

        The hand-shake is retried until `timeout_s`: a guest that boots answers when its agent is up.

        Raises:
            GuestError: no valid answer came in time.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=_SCAN_LIMIT)
        except OSError as error:
            raise GuestError(f"the agent's socket does not answer: {error.strerror}") from error
        agent = cls(reader, writer, on_output)
        try:
            async with asyncio.timeout(timeout_s):
                await agent._shake_hands()
        except TimeoutError as error:
            writer.close()
            raise GuestError(f"the guest's agent did not answer within {timeout_s:g} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            writer.close()
            raise GuestError("the connection to the guest's agent ended before it answered") from error
        except asyncio.LimitOverrunError as error:
            writer.close()
            raise GuestError(
                "the guest's agent did not answer, but something in the guest wrote in its place"
            ) from error
        except BaseException:
            writer.close()
            raise
        agent._task = asyncio.create_task(agent._receive())
        return agent

    async def _shake_hands(self) -> None:
        """Find the answer to our nonce: what stands before it are remains of an earlier connection."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        expected = encode(Frame(FrameType.HELLO, 0, nonce + encode_u32(0)))[: -len(encode_u32(0))]
        answered = asyncio.create_task(self._reader.readuntil(expected))
        try:
            while not answered.done():
                # What comes before the guest has opened its port is lost, so say it again.
                self.send(Frame(FrameType.HELLO, 0, nonce))
                await asyncio.wait([answered], timeout=_HELLO_INTERVAL_S)
            await answered
        finally:
            answered.cancel()
        self._version = decode_u32(await self._reader.readexactly(len(encode_u32(0))))
        if not 1 <= self._version <= PROTOCOL_VERSION:
            raise GuestError(f"the guest's agent speaks version {self._version}; build its image again")

    async def _receive(self) -> None:
        failure = GuestError("the connection to the guest's agent ended")
        try:
            while True:
                length, kind, stream = decode_header(await self._reader.readexactly(HEADER_BYTES))
                payload = await self._reader.readexactly(length) if length else b""
                self._take(Frame(kind, stream, payload))
        except GuestError as error:
            failure = error
        except (asyncio.IncompleteReadError, OSError):
            pass
        except asyncio.CancelledError:
            self._fail(failure)
            raise
        except Exception as error:
            log.exception("a guest's frame could not be taken")
            failure = GuestError(f"the guest's agent said what could not be taken: {error}")
        self._fail(failure)
        if not self.lost.done():
            self.lost.set_result(failure)

    def _take_reply(self, frame: Frame) -> None:
        if self._unanswered:
            self._unanswered -= 1  # it comes too late: nobody waits for it any more
        else:
            self._replies.put_nowait(frame)

    def _fail(self, failure: GuestError) -> None:
        self._failure = failure
        self._replies.put_nowait(Frame(FrameType.FAILED, 0, str(failure).encode()))
        self._end_streams(errno.ECONNRESET)

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.OUTPUT:
                self._on_output(STDERR if frame.stream == STDERR else STDOUT, frame.payload)
            case FrameType.EXITED:
                if not self.exited.done():
                    self.exited.set_result(decode_u32(frame.payload))
            case FrameType.ACCEPTED:
                self._accept(frame.stream)
            case FrameType.HELLO:
                pass  # the answer to a repeated greeting
            case FrameType.STARTED | FrameType.FAILED | FrameType.FROZEN | FrameType.THAWED:
                self._take_reply(frame)
            case _:
                self._take_for_stream(frame)

    def _accept(self, stream_id: int) -> None:
        if stream_id < GUEST_STREAMS or stream_id in self._streams:
            raise GuestError("the guest opened a stream with an id that is not its to take")
        if len(self._accepted) + len(self._serving) >= _ACCEPTED_MAX:
            raise GuestError("the guest opened more streams than it may")
        opened = asyncio.get_running_loop().create_future()
        opened.set_result(None)
        state = self._streams[stream_id] = StreamState(opened)
        self._accepted[stream_id] = GuestStream(self, stream_id, state)
        if self._serve is not None:
            self.serve(self._serve)

    def serve(self, handler: StreamHandler) -> None:
        """Let `handler` answer the connections to the guest's metadata address, those that wait already first."""
        self._serve = handler
        waiting, self._accepted = self._accepted, {}
        for stream in waiting.values():
            task = asyncio.create_task(handler(stream))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _take_for_stream(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # closed on our side while this was under way
        stream.take(frame)
        if frame.type is FrameType.CLOSE:
            del self._streams[frame.stream]

    def _end_streams(self, error: int) -> None:
        for stream in self._streams.values():
            stream.end(error)
        self._streams.clear()
        self._accepted.clear()

    def listen(self, on_output: OutputListener) -> None:
        """Pass on to another listener what the application writes from now on."""
        self._on_output = on_output

    @property
    def spares_connections(self) -> bool:
        """Whether it can let connections go on over a resume; agents of older images end them all."""
        return self._version >= _SPARES_SINCE

    def is_connected(self) -> bool:
        """Say whether the connection has not ended."""
        return self._failure is None

    def send(self, frame: Frame) -> None:
        """Queue a frame; `drain` waits until there is room again."""
        if self._failure is None:
            self._writer.write(encode(frame))

    async def drain(self) -> None:
        """Wait until the guest has taken enough of what was queued."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def forget_stream(self, stream_id: int) -> None:
        """Close a stream on both sides; repeats are harmless."""
        if self._streams.pop(stream_id, None) is not None:
            self.send(Frame(FrameType.CLOSE, stream_id, encode_u32(0)))

    async def _request(self, frame: Frame, answer: FrameType, timeout_s: float) -> None:
        if self._failure is not None:
            raise self._failure
        self.send(frame)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._replies.get()
        except TimeoutError:
            self._unanswered += 1
            raise GuestError(f"the guest did not answer {frame.type.name} within {timeout_s:g} s") from None
        if reply.type is FrameType.FAILED:
            raise GuestError(reply.payload.decode(errors="replace")[:500])
        if reply.type is not answer:
            raise GuestError(f"the guest answered {frame.type.name} with {reply.type.name}")

    async def start(self, application: Application, timeout_s: float = limit_s(30)) -> None:
        """Start the application; returns once its program has been executed.

        Raises:
            StartError: it could not be started; the text says why.
        """
        try:
            await self._request(
                Frame(FrameType.START, 0, encode_application(application)), FrameType.STARTED, timeout_s
            )
        except GuestError as error:
            raise StartError(str(error)) from error

    async def freeze(self, *, for_launches: bool = False, timeout_s: float = limit_s(10)) -> None:
        """Stop every process of the application, pass on what it wrote, and close all streams.

        Args:
            for_launches: look for connections to elsewhere now, so that the launches from here need not.
            timeout_s: how long it may take, in seconds.
        """
        payload = encode_u32(1) if for_launches else b""
        await self._request(Frame(FrameType.FREEZE, 0, payload), FrameType.FROZEN, timeout_s)
        self._end_streams(errno.ECONNRESET)  # the guest has forgotten them, also where it runs on

    async def thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Set clock, entropy and identity, and then let the application run."""
        await self._request(Frame(FrameType.THAW, 0, encode_identity(identity)), FrameType.THAWED, timeout_s)

    async def rehearse_thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Do all that `thaw` does, except letting the application run: the next time it is quicker.

        An emulated guest's code is translated when it is executed first. Older agents cannot rehearse; then nothing
        is done.
        """
        if self._version >= _REHEARSALS_SINCE:
            payload = encode_identity(identity, rehearsal=True)
            await self._request(Frame(FrameType.THAW, 0, payload), FrameType.THAWED, timeout_s)

    def power_off(self) -> None:
        """Ask the guest to end; there is no answer but its end."""
        self.send(Frame(FrameType.POWEROFF))

    async def open_stream(self, port: int, timeout_s: float) -> GuestStream:
        """Connect to a TCP port on the guest's loopback.

        Raises:
            ConnectionRefusedError: nothing listens there.
            GuestError: the agent is gone, or no answer came within `timeout_s` seconds.
        """
        stream_id, state = await self._open(FrameType.OPEN, encode_port(port), f"port {port} of the guest", timeout_s)
        return GuestStream(self, stream_id, state)

    async def open_command(self, command: Command, timeout_s: float = limit_s(10)) -> GuestCommand:
        """Start a command in the application's container.

        Raises:
            GuestError: it cannot be started, or the guest's agent knows no commands. A program that cannot be
                executed is no such error: it says so on its error output and ends with 126 or 127.
        """
        if self._version < _COMMANDS_SINCE:
            raise GuestError("this image was built by an older Emberbox, whose guests run no commands; build it again")
        payload = encode_command(command)
        if len(payload) > FRAME_PAYLOAD_MAX:
            raise GuestError(f"arguments and environment take {len(payload)} bytes; the limit is {FRAME_PAYLOAD_MAX}")
        try:
            stream_id, state = await self._open(FrameType.EXEC, payload, "a command", timeout_s)
        except ConnectionRefusedError as error:
            reason = _NO_COMMAND.get(error.errno or 0) or os.strerror(error.errno or 0)
            raise GuestError(f"the microVM cannot run a command: {reason}") from error
        return GuestCommand(self, stream_id, state)

    async def _open(
        self, kind: FrameType, payload: bytes, what: str, timeout_s: float
    ) -> tuple[int, StreamState]:  # fmt: skip
        if self._failure is not None:
            raise self._failure
        stream_id = self._next_stream
        self._next_stream = stream_id % (GUEST_STREAMS - 1) + 1
        state = StreamState(asyncio.get_running_loop().create_future())
        self._streams[stream_id] = state
        self.send(Frame(kind, stream_id, payload))
        try:
            async with asyncio.timeout(timeout_s):
                await state.opened
        except TimeoutError:
            self.forget_stream(stream_id)
            raise GuestError(f"{what} did not answer within {timeout_s:g} s") from None
        return stream_id, state

    async def close(self) -> None:
        """Drop the connection. The guest goes on."""
        self._writer.close()
        tasks = [*self._serving, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
