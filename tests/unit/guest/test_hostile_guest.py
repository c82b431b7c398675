"""Guests that lie or are loud: what they make the host hold or do has bounds, and others have their turns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
import tracemalloc
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_agent_connection import FakeAgent, Listener, accept_all, connected

from emberbox.control.logs.writer import LogWriter
from emberbox.guest import budget, http, wire
from emberbox.guest import output as output_module
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.guest.lines import OutputLines
from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    GUEST_STREAMS,
    HEADER_BYTES,
    OUTPUT_WINDOW_BYTES,
    PROTOCOL_VERSION,
    Command,
    Frame,
    FrameType,
    decode_header,
    encode,
    encode_u32,
)
from emberbox.guest.streams import STDOUT
from emberbox.model.errors import GuestError
from emberbox.model.records import LogGroup
from emberbox.store.database import Database
from emberbox.store.logs import LogStore
from emberbox.store.schema import log_metadata
from emberbox.vmm.channel import dial_unix
from support.waiting import wait_for_async

MIB = 1 << 20
GROUP = LogGroup("000000000000", "hostile")
NUMBER = encode_u32(1)


# --- the protocol is kept, or the connection ends


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([Frame(FrameType.STARTED)], "STARTED, which nobody had asked for"),
        ([Frame(FrameType.FAILED, 0, b"no")], "FAILED, which nobody had asked for"),
        ([Frame(FrameType.HELLO, 0, bytes(20))], "a greeting that it never had"),
        ([Frame(FrameType.OUTPUT, 1)], "output that is none"),
        ([Frame(FrameType.OUTPUT, 3, b"x")], "output that is none"),
        ([Frame(FrameType.OPENED, 1)], "opened a stream twice"),
        ([Frame(FrameType.DATA, 1)], "data of no bytes"),
        ([Frame(FrameType.ERROR_DATA, 1)], "data of no bytes"),
        ([Frame(FrameType.EOF, 1)] * 2, "ended a stream twice"),
        ([Frame(FrameType.EOF, 1), Frame(FrameType.DATA, 1, b"x")], "data behind a stream's end"),
        ([Frame(FrameType.EXEC_EXITED, 1, NUMBER)] * 2, "ended a command twice"),
        ([Frame(FrameType.WINDOW, 1, NUMBER)], "more window than it had taken"),
        ([Frame(FrameType.WINDOW, 1, encode_u32(0))], "more window than it had taken"),
        ([Frame(FrameType.SIGNAL, 1, NUMBER)], "the host's to send"),
        ([Frame(FrameType.ACCEPTED, GUEST_STREAMS + n) for n in range(33)], "more streams than it may"),
    ],
)
async def test_a_frame_that_says_nothing_or_nothing_true_ends_the_connection(
    tmp_path: Path, frames: list[Frame], reason: str
) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        await agent.open_stream(80, 5)
        for frame in frames:
            fake.send(frame)
        assert reason in str(await asyncio.wait_for(agent.lost, 10))
        assert not agent.is_connected()
        with pytest.raises(GuestError, match=reason):
            await agent.freeze()


async def test_an_answer_with_a_payload_ends_the_connection(tmp_path: Path) -> None:
    async def answer(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.FROZEN, 0, b"and more"))

    async with connected(tmp_path, answer) as (agent, _):
        with pytest.raises(GuestError, match="FROZEN with a payload"):
            await agent.freeze()


async def test_who_closes_the_connection_has_not_lost_it(tmp_path: Path) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        await agent.close()
        assert not agent.lost.done()
        assert not agent.is_connected()
    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.hang_up()
        assert "ended" in str(await asyncio.wait_for(agent.lost, 10))


async def test_a_guest_that_reads_nothing_loses_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_UNSENT_MAX", 100_000)
    silence = asyncio.Event()

    async def deaf(fake: FakeAgent, frame: Frame) -> None:
        await silence.wait()

    async with connected(tmp_path, deaf) as (agent, _):
        opening = [asyncio.create_task(agent.open_stream(80, 60)) for _ in range(10)]
        await asyncio.sleep(0)
        while agent.is_connected():
            agent._wire.send(Frame(FrameType.WINDOW, 1, bytes(1000)))
            await asyncio.sleep(0)
        assert "does not read what it is sent" in str(agent.lost.result())
        assert all(isinstance(error, GuestError) for error in await asyncio.gather(*opening, return_exceptions=True))
        silence.set()


# --- who gives up leaves nothing behind


async def test_a_request_that_was_cancelled_does_not_answer_the_next(tmp_path: Path) -> None:
    late = asyncio.Event()

    async def hesitate(fake: FakeAgent, frame: Frame) -> None:
        if frame.type is FrameType.FREEZE:
            await late.wait()
        await accept_all(fake, frame)

    async with connected(tmp_path, hesitate) as (agent, fake):
        freezing = asyncio.create_task(agent.freeze())
        await wait_for_async("it has come", lambda: FrameType.FREEZE in fake.types())
        freezing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await freezing
        late.set()
        await agent.thaw(fresh_identity())
        await agent.freeze()
        assert agent.is_connected()


@pytest.mark.parametrize("ends_by", ["cancel", "time limit", "time limit of the hook"])
async def test_a_stream_that_nobody_waits_for_any_more_is_closed(tmp_path: Path, ends_by: str) -> None:
    async def ignore(fake: FakeAgent, frame: Frame) -> None:
        """Neither open nor refuse."""

    async with connected(tmp_path, ignore) as (agent, fake):
        if ends_by == "cancel":
            opening = asyncio.create_task(agent.open_stream(80, 60))
            await wait_for_async("it has come", lambda: FrameType.OPEN in fake.types())
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        elif ends_by == "time limit":
            with pytest.raises(GuestError, match="did not answer"):
                await agent.open_stream(80, 0.05)
        else:
            with pytest.raises((TimeoutError, GuestError)):
                await http.post(agent, 80, "/", b"", {}, 0.05)
        assert not agent._streams
        await wait_for_async("it has come", lambda: FrameType.CLOSE in fake.types())


# --- output waits for its log


def window_frames(fake: FakeAgent) -> list[Frame]:
    return [frame for frame in fake.seen if frame.type is FrameType.WINDOW]


async def test_output_waits_for_its_log_and_requests_do_not_wait_for_output(tmp_path: Path) -> None:
    taken: list[bytes] = []
    room = asyncio.Event()

    async def slow_log(which: int, data: bytes) -> None:
        await room.wait()
        taken.append(data)

    async with connected(tmp_path, accept_all) as (agent, fake):
        agent.listen(Listener(slow_log))
        fake.send(Frame(FrameType.OUTPUT, 1, b"x" * OUTPUT_WINDOW_BYTES))
        await agent.thaw(fresh_identity())  # answered behind the output
        assert not taken
        assert not window_frames(fake)
        room.set()
        await wait_for_async("it has come", lambda: sum(map(len, taken)) == OUTPUT_WINDOW_BYTES)
        await agent.freeze()
        assert sum(int.from_bytes(frame.payload, "little") for frame in window_frames(fake)) == OUTPUT_WINDOW_BYTES
        assert {frame.stream for frame in window_frames(fake)} == {0}


async def test_a_guest_that_is_being_saved_is_told_nothing(tmp_path: Path) -> None:
    room = asyncio.Event()

    async def slow_log(which: int, data: bytes) -> None:
        await room.wait()

    async with connected(tmp_path, accept_all) as (agent, fake):
        agent.listen(Listener(slow_log))
        fake.send(Frame(FrameType.OUTPUT, 1, b"x" * 1000))
        await agent.freeze()
        room.set()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not window_frames(fake)
        await agent.thaw(fresh_identity())
        await agent.freeze()
        assert [frame.payload for frame in window_frames(fake)] == [encode_u32(1000)]


async def test_an_older_agent_is_given_no_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_agent_connection.PROTOCOL_VERSION", 3)
    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.send(Frame(FrameType.OUTPUT, 1, b"x" * 1000))
        await agent.freeze()
        await agent.thaw(fresh_identity())
        assert not window_frames(fake)


async def test_what_a_guest_sends_beyond_its_window_is_not_read(tmp_path: Path) -> None:
    async def stuck_log(which: int, data: bytes) -> None:
        await asyncio.Event().wait()

    with flooding([encode(Frame(FrameType.OUTPUT, 1, b"x" * FRAME_PAYLOAD_MAX))], frames_count=1000) as peer:
        agent = await Agent.connect(await dial_unix(peer.path), Listener(stuck_log), 10)
        peer.flood.set()
        sent = -1
        while peer.sent != sent:
            sent = peer.sent
            await asyncio.sleep(0.3)
        assert agent.is_connected()
        assert sent < 8 * MIB
        agent._output._task.cancel()
        await agent.close()


async def test_what_was_written_last_still_goes_to_the_log(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def log(which: int, data: bytes) -> None:
        await asyncio.sleep(0.01)
        taken.append(data)

    async with connected(tmp_path, accept_all) as (agent, fake):
        agent.listen(Listener(log))
        for number in range(10):
            fake.send(Frame(FrameType.OUTPUT, 1 + number % 2, b"%d" % number))
        await agent.freeze()
        await agent.close()
        assert b"".join(taken) == b"0123456789"


async def test_a_log_that_stands_still_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "FINISH_TIMEOUT_S", 0.05)

    async def stuck_log(which: int, data: bytes) -> None:
        await asyncio.Event().wait()

    async with connected(tmp_path, accept_all) as (agent, fake):
        listener = Listener(stuck_log)
        agent.listen(listener)
        for data in (b"one", b"two", b"three"):
            fake.send(Frame(FrameType.OUTPUT, 1, data))
        await agent.freeze()
        await agent.close()
        assert listener.kept == [(1, b"two"), (1, b"three")], "the first is the one that is being taken"


# --- others have their turns


async def turns_of_others(work: Awaitable[None]) -> int:
    """Return how often another task had its turn while `work` was done."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    try:
        await work
    finally:
        task.cancel()
    return turns


class ListLog:
    """A log that is a list."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def wait_for_room(self) -> None:
        """There always is."""

    def write_all(self, lines: Sequence[str]) -> None:
        self.lines += lines


async def test_a_megabyte_of_empty_lines_leaves_turns_to_others() -> None:
    log = ListLog()
    output = OutputLines(log)

    async def work() -> None:
        for _ in range(16):
            await output.take(STDOUT, b"\n" * FRAME_PAYLOAD_MAX)

    assert await turns_of_others(work()) >= MIB // 1000
    assert len(log.lines) == MIB


async def test_a_flood_of_small_frames_leaves_turns_to_others(tmp_path: Path) -> None:
    frames = b"".join(encode(Frame(FrameType.WINDOW, 4242, NUMBER)) for _ in range(2000))
    async with connected(tmp_path, accept_all) as (agent, fake):

        async def work() -> None:
            fake.send_raw(frames)
            await agent.freeze()

        assert await turns_of_others(work()) >= 2000 * budget.FRAME_BYTES // budget.TURN_BYTES


async def test_a_hooks_answer_in_tiny_pieces_leaves_turns_to_others(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = b"1\r\nx\r\n" * 8000 + b"0\r\n\r\n"

    async def handle(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        if frame.type is FrameType.DATA:
            fake.send(Frame(FrameType.DATA, frame.stream, head))
            fake.send(Frame(FrameType.DATA, frame.stream, pieces))
            fake.send(Frame(FrameType.EOF, frame.stream))

    async with connected(tmp_path, handle) as (agent, _):

        async def work() -> None:
            answer = await http.post(agent, 80, "/", b"", {}, 60)
            assert answer.body == b"x" * 8000

        assert await turns_of_others(work()) >= 80


# --- frames drawn at random


class Peer(threading.Thread):
    """A guest in a thread of its own: shakes hands, opens what the host asks for, and then sends what it likes."""

    def __init__(self, path: Path, frames: list[bytes], count: int) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.sent = 0
        self.flood = threading.Event()
        self._frames = frames
        self._count = count
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connection = socket.socket()

    def run(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._connection, _ = self._listener.accept()
            while not self.flood.is_set():
                self._answer_one()
            for number in range(self._count):
                frame = self._frames[number % len(self._frames)]
                self._connection.sendall(frame)
                self.sent += len(frame)

    def _answer_one(self) -> None:
        self._connection.settimeout(0.02)
        try:
            header = self._read(HEADER_BYTES)
        except TimeoutError:
            return
        finally:
            self._connection.settimeout(None)
        length, kind, stream = decode_header(header)
        payload = self._read(length)
        if kind is FrameType.HELLO:
            self._connection.sendall(encode(Frame(FrameType.HELLO, 0, payload + encode_u32(PROTOCOL_VERSION))))
        elif kind in (FrameType.OPEN, FrameType.EXEC):
            self._connection.sendall(encode(Frame(FrameType.OPENED, stream)))

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._connection.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def end(self) -> None:
        self.flood.set()
        for end in (self._listener, self._connection):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.join(30)


@contextlib.contextmanager
def flooding(frames: list[bytes], frames_count: int = 3000) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as directory:
        peer = Peer(Path(directory) / "agent.sock", frames, frames_count)
        peer.start()
        try:
            yield peer
        finally:
            peer.end()


PAYLOADS = {
    "nothing": b"",
    "a byte": b"\n",
    "a number": NUMBER,
    "text": b"x" * 1000,
    "lines": b"\n" * FRAME_PAYLOAD_MAX,
    "a lot": b"\xff" * FRAME_PAYLOAD_MAX,
}
STREAMS = (0, 1, 2, 3, GUEST_STREAMS, GUEST_STREAMS + 1, 0xFFFFFFFF)
Drawn = tuple[FrameType, int, str]
FRAMES = st.tuples(st.sampled_from(FrameType), st.sampled_from(STREAMS), st.sampled_from(sorted(PAYLOADS)))
FLOOD_S = 1.0


@settings(max_examples=15)
@given(st.lists(FRAMES, min_size=1, max_size=6))
@example([(FrameType.STARTED, 0, "a lot")])
@example([(FrameType.STARTED, 0, "nothing")])
@example([(FrameType.DATA, 1, "nothing")])
@example([(FrameType.EOF, 1, "nothing")])
@example([(FrameType.OUTPUT, 1, "lines")])
@example([(FrameType.OUTPUT, 1, "a lot")])
@example([(FrameType.OUTPUT, 1, "a byte"), (FrameType.OUTPUT, 2, "a byte")])
@example([(FrameType.DATA, 2, "a byte"), (FrameType.ERROR_DATA, 2, "a byte")])
@example([(FrameType.ACCEPTED, GUEST_STREAMS, "nothing"), (FrameType.CLOSE, GUEST_STREAMS, "a number")])
@example([(FrameType.DATA, 99, "a lot")])
@example([(FrameType.EXITED, 0, "a number")])
def test_frames_drawn_at_random_fill_no_memory(drawn: list[Drawn]) -> None:
    """The real agent's end, splitter and log writer; two streams that nobody reads, and an answer that never comes."""
    frames = [encode(Frame(kind, stream, PAYLOADS[payload])) for kind, stream, payload in drawn]
    peak = asyncio.run(measure(frames))
    assert peak < 16 * MIB


async def measure(frames: list[bytes]) -> int:
    with tempfile.TemporaryDirectory() as directory, flooding(frames) as peer:
        database = Database(f"sqlite:///{directory}/logs.db", log_metadata, durable=False)
        writer = LogWriter(LogStore(database))
        writer.start()
        agent = await Agent.connect(await dial_unix(peer.path), OutputLines(writer.stream(GROUP, "s")), 10)
        await agent.open_stream(80, 10)
        await agent.open_command(Command(("cat",)))
        asking = asyncio.create_task(agent.freeze(timeout_s=60))
        await asyncio.sleep(0)
        tracemalloc.start()
        try:
            peer.flood.set()
            end = asyncio.get_running_loop().time() + FLOOD_S  # a guest that is slowed down never comes to an end
            while peer.is_alive() and agent.is_connected() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await agent.close()
            await writer.close()
            database.close()
    return peak
