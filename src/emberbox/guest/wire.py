"""The connection to a guest's agent: the hand-shake, and frames in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable

from emberbox.guest.budget import Budget
from emberbox.guest.protocol import (
    HEADER_BYTES,
    NONCE_BYTES,
    PROTOCOL_VERSION,
    Frame,
    FrameType,
    decode_header,
    decode_u32,
    encode,
    encode_u32,
)
from emberbox.model.errors import GuestError

log = logging.getLogger(__name__)

_READ_LIMIT = 1 << 17
"""asyncio's reader holds up to twice as much, and then reads no more."""
_UNSENT_MAX = 1 << 20
"""More than the answers to a guest that reads can ever be."""
_HELLO_INTERVAL_S = 0.25


async def open_streams(connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to an agent as streams, which close it."""
    try:
        return await asyncio.open_unix_connection(sock=connection, limit=_READ_LIMIT)
    except BaseException:
        connection.close()
        raise


class Wire:
    """Sends frames, and passes on those that come.

    Args:
        reader: of the connection.
        writer: of the connection; closed when it ends.
        take: called with each frame; raises GuestError where the guest does not keep the protocol.
        wait_for_room: awaited after each frame: what nobody has room for is not read.
        on_end: called once when the connection ends, for whatever reason.

    Attributes:
        version: of the protocol that the agent speaks; known after the hand-shake.
        lost: set to the reason when the connection ends before `end` is called from outside.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        take: Callable[[Frame], None],
        wait_for_room: Callable[[], Awaitable[None]],
        on_end: Callable[[GuestError], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._take = take
        self._wait_for_room = wait_for_room
        self._on_end = on_end
        self._budget = Budget()
        self._draining = asyncio.Lock()
        self._greeting = b""
        self._greetings = 0
        self._failure: GuestError | None = None
        self.version = 0
        self.lost: asyncio.Future[GuestError] = asyncio.get_running_loop().create_future()

    # --- the hand-shake

    async def shake_hands(self, timeout_s: float) -> None:
        """Greet the agent until it answers: a guest that boots does so when its agent is up.

        Raises:
            GuestError: no valid answer came in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._shake_hands()
        except TimeoutError as error:
            raise GuestError(f"the guest's agent did not answer within {timeout_s:g} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise GuestError("the connection to the guest's agent ended before it answered") from error

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
        self.version = decode_u32(version)
        if not 1 <= self.version <= PROTOCOL_VERSION:
            raise GuestError(f"the guest's agent speaks version {self.version}; build its image again")

    async def _skip_to(self, expected: bytes) -> None:
        while True:
            try:
                await self._reader.readuntil(expected)
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)
                await self._budget.spend(error.consumed)
            else:
                return

    def _take_greeting(self, payload: bytes) -> None:
        """Take the answer to a greeting that was repeated."""
        if payload != self._greeting or not self._greetings:
            raise GuestError("the guest answered a greeting that it never had")
        self._greetings -= 1

    # --- what comes

    async def receive(self) -> None:
        """Pass frames on until the connection ends."""
        failure = GuestError("the connection to the guest's agent ended")
        try:
            while True:
                length, kind, stream = decode_header(await self._reader.readexactly(HEADER_BYTES))
                payload = await self._reader.readexactly(length) if length else b""
                if kind is FrameType.HELLO:
                    self._take_greeting(payload)
                else:
                    self._take(Frame(kind, stream, payload))
                await self._budget.spend(length)
                await self._wait_for_room()
        except GuestError as error:
            failure = error
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception as error:
            log.exception("a guest's frame could not be taken")
            failure = GuestError(f"the guest's agent said what could not be taken: {error}")
        self._lose(failure)

    # --- what goes

    def send(self, frame: Frame) -> None:
        """Queue a frame; those with much in them only right after `drain`."""
        if self._failure is not None or self._writer.is_closing():  # it was reset, which `receive` is about to hear
            return
        self._writer.write(encode(frame))
        if self._writer.transport.get_write_buffer_size() > _UNSENT_MAX:
            self._lose(GuestError("the guest does not read what it is sent"))

    async def drain(self) -> None:
        """Wait until there is room for a frame. Who waits goes on one by one, so that each finds that room."""
        async with self._draining:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    # --- its end

    def is_connected(self) -> bool:
        """Say whether the connection has not ended."""
        return self._failure is None

    def check_connected(self) -> None:
        """Raise the reason for which the connection has ended.

        Raises:
            GuestError: it has.
        """
        if self._failure is not None:
            raise GuestError(str(self._failure))

    def _lose(self, failure: GuestError) -> None:
        if self._failure is None:
            self.lost.set_result(failure)
            self.end(failure)

    def end(self, failure: GuestError) -> None:
        """End the connection; repeats are harmless."""
        if self._failure is not None:
            return
        self._failure = failure
        self._on_end(failure)
        self._writer.close()  # what a guest sends that has been cut off is not read
