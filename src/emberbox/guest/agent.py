"""A connection to one guest's agent: requests, the application's output, and streams to its ports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from emberbox.guest.budget import Budget
from emberbox.guest.output import Output, OutputListener
from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    GUEST_STREAMS,
    GUEST_STREAMS_MAX,
    HEADER_BYTES,
    METADATA_PORT,
    NAMES_PORT,
    NONCE_BYTES,
    PROTOCOL_VERSION,
    Application,
    Command,
    Frame,
    FrameType,
    Identity,
    decode_header,
    decode_service,
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
_READ_LIMIT = 1 << 17
"""asyncio's reader holds up to twice as much, and then reads no more."""
_UNSENT_MAX = 1 << 20
"""More than the answers to a guest that reads can ever be."""
_COMMANDS_SINCE = 2
_REHEARSALS_SINCE = 3
_SPARES_SINCE = 4
_OUTPUT_WINDOW_SINCE = 5
_NAMES_SINCE = 6
_QUERIES_MAX = 32  # as many as the guest's agent remembers
_SERVED_MAX = 64  # those that the guest has closed may still be answered here
START_TIMEOUT_S = limit_s(120)
"""A build on a busy machine had no answer after 30 s, and nobody is helped by its failing."""

_ANSWERS = (FrameType.STARTED, FrameType.FROZEN, FrameType.THAWED)
_NO_COMMAND = {
    errno.EMFILE: "64 run already",
    errno.EAGAIN: "it is being suspended",
    errno.ESRCH: "its application has ended",
}
_HELLO_INTERVAL_S = 0.25

StreamHandler = Callable[[GuestStream], Coroutine[Any, Any, None]]
"""Answers one connection that somebody in the guest made to a service of the host's, and closes it."""


class NameServer(Protocol):
    """Answers what a guest asks its name server, bounded; it never raises."""

    async def answer(self, query: bytes) -> bytes | None:
        """Return the answer to a datagram; None leaves it unanswered."""
        ...

    async def serve(self, stream: GuestStream) -> None:
        """Answer a connection and close it."""
        ...


def fresh_identity(hostname: str | None = None, machine_id: str | None = None) -> Identity:
    """Return an identity with new entropy."""
    return Identity(secrets.token_bytes(ENTROPY_BYTES), hostname, machine_id)


class Agent:
    """One connected agent. Made by `connect`; the owner calls `close`.

    The guest is not trusted. What it can make the host hold is bounded: one answer, and that only while one is awaited;
    a window for each stream that the host has opened or lets the guest have; what `Output` holds; and what was read and
    not taken yet. What it can make the host do is bounded by `Budget`. A guest that does not keep the protocol loses
    the connection, and `lost` says so.

    Attributes:
        exited: set to the exit code when the application's main process ends.
        lost: set to the reason when the connection ends before `close`; the VMM may still live.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_output: OutputListener) -> None:
        loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._output = Output(on_output, self._grant_output)
        self._ungranted = 0
        self._is_frozen = False
        self._budget = Budget()
        self._draining = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._answer: asyncio.Future[Frame] | None = None
        self._late_answers = 0
        self._greeting = b""
        self._greetings = 0
        self._streams: dict[int, StreamState] = {}
        self._next_stream = 1
        self._task: asyncio.Task[None] | None = None
        self._failure: GuestError | None = None
        self._version = 0
        self._accepted: dict[int, tuple[int, GuestStream]] = {}
        self._services: dict[int, StreamHandler] = {}
        self._names: NameServer | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.lost: asyncio.Future[GuestError] = loop.create_future()

    @classmethod
    async def connect(cls, connection: socket.socket, on_output: OutputListener, timeout_s: float) -> Agent:
        """Shake hands with the agent at the other end of a connection, which is closed with this object.

        The hand-shake is retried until `timeout_s`: a guest that boots answers when its agent is up.

        Raises:
            GuestError: no valid answer came in time.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_READ_LIMIT)
        except BaseException:
            connection.close()
            raise
        agent = cls(reader, writer, on_output)
        try:
            async with asyncio.timeout(timeout_s):
                await agent._shake_hands()
        except TimeoutError as error:
            await agent.close()
            raise GuestError(f"the guest's agent did not answer within {timeout_s:g} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            await agent.close()
            raise GuestError("the connection to the guest's agent ended before it answered") from error
        except BaseException:
            await agent.close()
            raise
        agent._task = asyncio.create_task(agent._receive())
        return agent

    # --- the hand-shake

    async def _shake_hands(self) -> None:
        """Find the answer to our nonce: what stands before it are remains of an earlier connection."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        expected = encode(Frame(FrameType.HELLO, 0, nonce + encode_u32(0)))[: -len(encode_u32(0))]
        answered = asyncio.create_task(self._skip_to(expected))
        try:
            while not answered.done():
                # What comes before the guest has opened its port is lost, so say it again.
                self.send(Frame(FrameType.HELLO, 0, nonce))
                self._greetings += 1
                await asyncio.wait([answered], timeout=_HELLO_INTERVAL_S)
            await answered
        finally:
            answered.cancel()
        version = await self._reader.readexactly(len(encode_u32(0)))
        self._greeting = nonce + version
        self._greetings -= 1
        self._version = decode_u32(version)
        if not 1 <= self._version <= PROTOCOL_VERSION:
            raise GuestError(f"the guest's agent speaks version {self._version}; build its image again")

    async def _skip_to(self, expected: bytes) -> None:
        while True:
            try:
                await self._reader.readuntil(expected)
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)
                await self._budget.spend(error.consumed)
            else:
                return

    # --- what comes

    async def _receive(self) -> None:
        failure = GuestError("the connection to the guest's agent ended")
        try:
            while True:
                length, kind, stream = decode_header(await self._reader.readexactly(HEADER_BYTES))
                payload = await self._reader.readexactly(length) if length else b""
                self._take(Frame(kind, stream, payload))
                await self._budget.spend(length)
                await self._output.wait_for_room()
        except GuestError as error:
            failure = error
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception as error:
            log.exception("a guest's frame could not be taken")
            failure = GuestError(f"the guest's agent said what could not be taken: {error}")
        self._fail(failure)

    def _fail(self, failure: GuestError) -> None:
        if self._failure is not None:
            return
        self.lost.set_result(failure)
        self._end(failure)

    def _end(self, failure: GuestError) -> None:
        self._failure = failure
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failure)
        self._end_streams(errno.ECONNRESET)
        self._writer.close()  # what a guest sends that has been cut off is not read

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.OUTPUT:
                self._take_output(frame)
            case FrameType.EXITED:
                code = decode_u32(frame.payload)
                if not self.exited.done():
                    self.exited.set_result(code)
            case FrameType.ACCEPTED:
                self._accept(frame.stream, decode_service(frame.payload))
            case FrameType.QUERY:
                self._take_query(frame)
            case FrameType.HELLO:
                self._take_greeting(frame.payload)
            case FrameType.STARTED | FrameType.FAILED | FrameType.FROZEN | FrameType.THAWED:
                self._take_answer(frame)
            case _:
                self._take_for_stream(frame)

    def _take_output(self, frame: Frame) -> None:
        if frame.stream not in (STDOUT, STDERR) or not frame.payload:
            raise GuestError("the guest sent output that is none")
        self._output.put(frame.stream, frame.payload)

    def _take_greeting(self, payload: bytes) -> None:
        """Take the answer to a greeting that was repeated."""
        if payload != self._greeting or not self._greetings:
            raise GuestError("the guest answered a greeting that it never had")
        self._greetings -= 1

    def _take_answer(self, frame: Frame) -> None:
        if frame.type in _ANSWERS and frame.payload:
            raise GuestError(f"the guest sent {frame.type.name} with a payload")
        if self._late_answers:
            self._late_answers -= 1  # nobody waits for it any more
            return
        waits, self._answer = self._answer, None
        if waits is None:
            raise GuestError(f"the guest sent {frame.type.name}, which nobody had asked for")
        if not waits.cancelled():  # else whoever asked gives up just now
            waits.set_result(frame)

    def _accept(self, stream_id: int, port: int) -> None:
        if stream_id < GUEST_STREAMS or stream_id in self._streams:
            raise GuestError("the guest opened a stream with an id that is not its to take")
        if sum(taken >= GUEST_STREAMS for taken in self._streams) >= GUEST_STREAMS_MAX:
            raise GuestError("the guest opened more streams than it may")
        opened = asyncio.get_running_loop().create_future()
        opened.set_result(None)
        state = self._streams[stream_id] = StreamState(opened, is_open=True)
        if len(self._accepted) + len(self._serving) >= _SERVED_MAX:
            self.forget_stream(stream_id)  # it closes its streams more quickly than we see it
            return
        self._accepted[stream_id] = (port, GuestStream(self, stream_id, state))
        self._serve_waiting()

    def serve(self, handler: StreamHandler) -> None:
        """Let `handler` answer the connections to the guest's metadata address, those that wait already first."""
        self._services[METADATA_PORT] = handler
        self._serve_waiting()

    def serve_names(self, names: NameServer) -> None:
        """Let `names` answer what the guest asks its name server; a guest does so that was told to (`Identity`)."""
        if self._version < _NAMES_SINCE:
            log.warning("no name resolves in a guest whose image was built by an older Emberbox; build it again")
        self._names = names
        self._services[NAMES_PORT] = names.serve
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        for stream_id, (port, stream) in list(self._accepted.items()):
            if handler := self._services.get(port):
                del self._accepted[stream_id]
                task = asyncio.create_task(handler(stream))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)

    def _take_query(self, frame: Frame) -> None:
        """Have it answered; what is too much is dropped, as datagrams are."""
        if self._names is not None and len(self._answering) < _QUERIES_MAX:
            task = asyncio.create_task(self._answer_query(self._names, frame))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer_query(self, names: NameServer, query: Frame) -> None:
        answer = await names.answer(query.payload)
        if answer is not None:
            await self.drain()
            self.send(Frame(FrameType.ANSWER, query.stream, answer))

    def _take_for_stream(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # closed on our side while this was under way
        stream.take(frame)
        if frame.type is FrameType.CLOSE:
            del self._streams[frame.stream]
            self._accepted.pop(frame.stream, None)

    def _end_streams(self, error: int) -> None:
        for stream in self._streams.values():
            stream.end(error)
        self._streams.clear()
        self._accepted.clear()

    # --- the application's output

    def listen(self, on_output: OutputListener) -> None:
        """Pass on to another listener what the application writes from now on."""
        self._output.listener = on_output

    def _grant_output(self, count: int) -> None:
        """Let as much output come as the log has taken; but nothing is said to a guest that is being saved."""
        self._ungranted += count
        if self._version >= _OUTPUT_WINDOW_SINCE and not self._is_frozen:
            self.send(Frame(FrameType.WINDOW, 0, encode_u32(self._ungranted)))
            self._ungranted = 0

    # --- what goes

    @property
    def spares_connections(self) -> bool:
        """Whether it can let connections go on over a resume; agents of older images end them all."""
        return self._version >= _SPARES_SINCE

    def is_connected(self) -> bool:
        """Say whether the connection has not ended."""
        return self._failure is None

    def _check_connected(self) -> None:
        if self._failure is not None:
            raise GuestError(str(self._failure))

    def send(self, frame: Frame) -> None:
        """Queue a frame; those with much in them only right after `drain`."""
        if self._failure is not None:
            return
        self._writer.write(encode(frame))
        if self._writer.transport.get_write_buffer_size() > _UNSENT_MAX:
            self._fail(GuestError("the guest does not read what it is sent"))

    async def drain(self) -> None:
        """Wait until there is room for a frame. Who waits goes on one by one, so that each finds that room."""
        async with self._draining:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def forget_stream(self, stream_id: int) -> None:
        """Close a stream on both sides; repeats are harmless."""
        if self._streams.pop(stream_id, None) is not None:
            self.send(Frame(FrameType.CLOSE, stream_id, encode_u32(0)))

    # --- requests

    async def _request(
        self, kind: FrameType, answer: FrameType, timeout_s: float, payload: Callable[[], bytes] = bytes
    ) -> None:
        """Ask for something, one after the other; `payload` is called when it is sent."""
        try:
            async with asyncio.timeout(timeout_s), self._asking:
                reply = await self._ask(kind, payload)
        except TimeoutError:
            raise GuestError(f"the guest did not answer {kind.name} within {timeout_s:g} s") from None
        if reply.type is FrameType.FAILED:
            raise GuestError(reply.payload.decode(errors="replace")[:500])
        if reply.type is not answer:
            raise GuestError(f"the guest answered {kind.name} with {reply.type.name}")

    async def _ask(self, kind: FrameType, payload: Callable[[], bytes]) -> Frame:
        self._check_connected()
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self.send(Frame(kind, 0, payload()))
        try:
            return await answer
        finally:
            if self._answer is answer and answer.cancelled():  # whoever asked has given up; the answer still comes
                self._late_answers += 1
            self._answer = None

    async def start(self, application: Application, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the application; returns once its program has been executed.

        Raises:
            StartError: it could not be started; the text says why.
        """
        try:
            await self._request(FrameType.START, FrameType.STARTED, timeout_s, lambda: encode_application(application))
        except GuestError as error:
            raise StartError(str(error)) from error

    async def freeze(self, *, for_launches: bool = False, timeout_s: float = limit_s(10)) -> None:
        """Stop every process of the application, pass on what it wrote, and close all streams.

        Args:
            for_launches: look for connections to elsewhere now, so that the launches from here need not.
            timeout_s: how long it may take, in seconds.
        """
        self._is_frozen = True
        payload = encode_u32(1) if for_launches else b""
        await self._request(FrameType.FREEZE, FrameType.FROZEN, timeout_s, lambda: payload)
        self._end_streams(errno.ECONNRESET)  # the guest has forgotten them, also where it runs on

    async def thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Set clock, entropy and identity, and then let the application run. The clock is that of the sending."""
        self._is_frozen = False
        await self._request(
            FrameType.THAW, FrameType.THAWED, timeout_s, lambda: encode_identity(identity, time.time_ns())
        )
        if self._ungranted:
            self._grant_output(0)

    async def rehearse_thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Do all that `thaw` does, except letting the application run: the next time it is quicker.

        An emulated guest's code is translated when it is executed first. Older agents cannot rehearse; then nothing
        is done.
        """
        if self._version >= _REHEARSALS_SINCE:
            await self._request(
                FrameType.THAW,
                FrameType.THAWED,
                timeout_s,
                lambda: encode_identity(identity, time.time_ns(), rehearsal=True),
            )

    def power_off(self) -> None:
        """Ask the guest to end; there is no answer but its end."""
        self.send(Frame(FrameType.POWEROFF))

    # --- streams

    async def open_stream(self, port: int, timeout_s: float) -> GuestStream:
        """Connect to a TCP port of the guest, at the first of its addresses where something listens (`Place`).

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
        self._check_connected()
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
            self._check_connected()
            raise
        except BaseException:  # cancelled: nobody else knows of the stream
            self.forget_stream(stream_id)
            raise
        return stream_id, state

    async def close(self) -> None:
        """Drop the connection; what the application has written still goes to the log. The guest goes on."""
        if self._failure is None:
            self._end(GuestError("the connection to the guest's agent is closed"))
        tasks = [*self._serving, *self._answering, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._output.close()
