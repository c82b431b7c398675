"""One guest's agent: requests, the application's output, and streams to its ports."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
import time

from emberbox.guest.names import NameServer, Queries
from emberbox.guest.output import Output, OutputListener
from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    METADATA_PORT,
    NAMES_PORT,
    Application,
    Command,
    Frame,
    FrameType,
    Identity,
    decode_service,
    decode_u32,
    encode_application,
    encode_command,
    encode_identity,
    encode_port,
    encode_u32,
)
from emberbox.guest.requests import Requests
from emberbox.guest.stream_table import StreamHandler, StreamTable
from emberbox.guest.streams import STDERR, STDOUT, GuestCommand, GuestStream
from emberbox.guest.wire import Wire, open_streams
from emberbox.model.errors import GuestError, StartError
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

ENTROPY_BYTES = 64
_COMMANDS_SINCE = 2
_REHEARSALS_SINCE = 3
_SPARES_SINCE = 4
_OUTPUT_WINDOW_SINCE = 5
_NAMES_SINCE = 6
START_TIMEOUT_S = limit_s(120)
"""A build on a busy machine had no answer after 30 s, and nobody is helped by its failing."""

_NO_COMMAND = {
    errno.EMFILE: "64 run already",
    errno.EAGAIN: "it is being suspended",
    errno.ESRCH: "its application has ended",
}


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
        self._output = Output(on_output, self._grant_output)
        self._ungranted = 0
        self._is_frozen = False
        self._wire = Wire(
            reader, writer, take=self._take, wait_for_room=self._output.wait_for_room, on_end=self._end_all
        )
        self._requests = Requests(self._wire)
        self._streams = StreamTable(self._wire)
        self._queries = Queries(self._wire)
        self._receiving: asyncio.Task[None] | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.lost = self._wire.lost

    @classmethod
    async def connect(cls, connection: socket.socket, on_output: OutputListener, timeout_s: float) -> Agent:
        """Shake hands with the agent at the other end of a connection, which is closed with this object.

        The hand-shake is retried until `timeout_s`: a guest that boots answers when its agent is up.

        Raises:
            GuestError: no valid answer came in time.
        """
        agent = cls(*await open_streams(connection), on_output)
        try:
            await agent._wire.shake_hands(timeout_s)
        except BaseException:
            await agent.close()
            raise
        agent._receiving = asyncio.create_task(agent._wire.receive())
        return agent

    # --- what comes

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.OUTPUT:
                self._take_output(frame)
            case FrameType.EXITED:
                code = decode_u32(frame.payload)
                if not self.exited.done():
                    self.exited.set_result(code)
            case FrameType.ACCEPTED:
                self._streams.accept(frame.stream, decode_service(frame.payload))
            case FrameType.QUERY:
                self._queries.take(frame)
            case FrameType.STARTED | FrameType.FAILED | FrameType.FROZEN | FrameType.THAWED:
                self._requests.take(frame)
            case _:
                self._streams.take(frame)

    def _take_output(self, frame: Frame) -> None:
        if frame.stream not in (STDOUT, STDERR) or not frame.payload:
            raise GuestError("the guest sent output that is none")
        self._output.put(frame.stream, frame.payload)

    def _end_all(self, failure: GuestError) -> None:
        self._requests.end(failure)
        self._streams.end_all(errno.ECONNRESET)

    # --- services of the host

    def serve(self, handler: StreamHandler) -> None:
        """Let `handler` answer the connections to the guest's metadata address, those that wait already first."""
        self._streams.serve(METADATA_PORT, handler)

    def serve_names(self, names: NameServer) -> None:
        """Let `names` answer what the guest asks its name server; a guest does so that was told to (`Identity`)."""
        if self._wire.version < _NAMES_SINCE:
            log.warning("no name resolves in a guest whose image was built by an older Emberbox; build it again")
        self._queries.names = names
        self._streams.serve(NAMES_PORT, names.serve)

    # --- the application's output

    def listen(self, on_output: OutputListener) -> None:
        """Pass on to another listener what the application writes from now on."""
        self._output.listener = on_output

    def _grant_output(self, count: int) -> None:
        """Let as much output come as the log has taken; but nothing is said to a guest that is being saved."""
        self._ungranted += count
        if self._wire.version >= _OUTPUT_WINDOW_SINCE and not self._is_frozen:
            self._wire.send(Frame(FrameType.WINDOW, 0, encode_u32(self._ungranted)))
            self._ungranted = 0

    # --- requests

    @property
    def spares_connections(self) -> bool:
        """Whether it can let connections go on over a resume; agents of older images end them all."""
        return self._wire.version >= _SPARES_SINCE

    def is_connected(self) -> bool:
        """Say whether the connection has not ended."""
        return self._wire.is_connected()

    async def start(self, application: Application, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the application; returns once its program has been executed.

        Raises:
            StartError: it could not be started; the text says why.
        """
        try:
            await self._requests.ask(
                FrameType.START, FrameType.STARTED, timeout_s, lambda: encode_application(application)
            )
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
        await self._requests.ask(FrameType.FREEZE, FrameType.FROZEN, timeout_s, lambda: payload)
        self._streams.end_all(errno.ECONNRESET)  # the guest has forgotten them, also where it runs on

    async def thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Set clock, entropy and identity, and then let the application run. The clock is that of the sending."""
        self._is_frozen = False
        await self._requests.ask(
            FrameType.THAW, FrameType.THAWED, timeout_s, lambda: encode_identity(identity, time.time_ns())
        )
        if self._ungranted:
            self._grant_output(0)

    async def rehearse_thaw(self, identity: Identity, timeout_s: float = limit_s(10)) -> None:
        """Do all that `thaw` does, except letting the application run: the next time it is quicker.

        An emulated guest's code is translated when it is executed first. Older agents cannot rehearse; then nothing
        is done.
        """
        if self._wire.version >= _REHEARSALS_SINCE:
            await self._requests.ask(
                FrameType.THAW,
                FrameType.THAWED,
                timeout_s,
                lambda: encode_identity(identity, time.time_ns(), rehearsal=True),
            )

    # --- streams

    async def open_stream(self, port: int, timeout_s: float) -> GuestStream:
        """Connect to a TCP port of the guest, at the first of its addresses where something listens (`Place`).

        Raises:
            ConnectionRefusedError: nothing listens there.
            GuestError: the agent is gone, or no answer came within `timeout_s` seconds.
        """
        stream_id, state = await self._streams.open(
            FrameType.OPEN, encode_port(port), f"port {port} of the guest", timeout_s
        )
        return GuestStream(self._streams, stream_id, state)

    async def open_command(self, command: Command, timeout_s: float = limit_s(10)) -> GuestCommand:
        """Start a command in the application's container.

        Raises:
            GuestError: it cannot be started, or the guest's agent knows no commands. A program that cannot be
                executed is no such error: it says so on its error output and ends with 126 or 127.
        """
        if self._wire.version < _COMMANDS_SINCE:
            raise GuestError("this image was built by an older Emberbox, whose guests run no commands; build it again")
        payload = encode_command(command)
        if len(payload) > FRAME_PAYLOAD_MAX:
            raise GuestError(f"arguments and environment take {len(payload)} bytes; the limit is {FRAME_PAYLOAD_MAX}")
        try:
            stream_id, state = await self._streams.open(FrameType.EXEC, payload, "a command", timeout_s)
        except ConnectionRefusedError as error:
            reason = _NO_COMMAND.get(error.errno or 0) or os.strerror(error.errno or 0)
            raise GuestError(f"the microVM cannot run a command: {reason}") from error
        return GuestCommand(self._streams, stream_id, state)

    async def close(self) -> None:
        """Drop the connection; what the application has written still goes to the log. The guest goes on."""
        self._wire.end(GuestError("the connection to the guest's agent is closed"))
        tasks = [*self._streams.serving, *self._queries.answering]
        if self._receiving is not None:
            tasks.append(self._receiving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._output.close()
