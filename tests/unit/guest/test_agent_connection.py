"""The host's side of the agent's channel, against an agent made of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from emberbox.guest import http, wire
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.guest.output import DropOutput
from emberbox.guest.protocol import (
    GUEST_STREAMS,
    HEADER_BYTES,
    PROTOCOL_VERSION,
    STREAM_WINDOW_BYTES,
    Application,
    Frame,
    FrameType,
    Place,
    ThawField,
    decode_header,
    encode,
    encode_u32,
)
from emberbox.guest.streams import GuestStream
from emberbox.host.space import DiskSpace
from emberbox.machine.connections import UserConnection
from emberbox.machine.greeting import connect_agent
from emberbox.machine.guest import Guest, Parts
from emberbox.model.errors import GuestError, VmmError
from emberbox.vmm.base import Vm
from emberbox.vmm.channel import dial_unix
from emberbox.vmm.qemu.driver import CAPABILITIES
from support.waiting import wait_for_async

APPLICATION = Application(("true",), (), "/", 0, 0, (), 0, False, "h", "")

Handle = Callable[["FakeAgent", Frame], Awaitable[None]]


class FakeAgent:
    """Answers frames as `handle` says; greets by itself."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.seen: list[Frame] = []
        self.greeting = b""
        self.silent_greetings = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.write(self.greeting)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, kind, stream = decode_header(await reader.readexactly(HEADER_BYTES))
                frame = Frame(kind, stream, await reader.readexactly(length))
                self.seen.append(frame)
                if kind is FrameType.HELLO:
                    self.silent_greetings -= 1
                    if self.silent_greetings < 0:
                        self.send(Frame(FrameType.HELLO, 0, frame.payload + encode_u32(PROTOCOL_VERSION)))
                else:
                    await self._handle(self, frame)
        writer.close()

    def send(self, frame: Frame) -> None:
        assert self._writer is not None
        self._writer.write(encode(frame))

    def send_raw(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.close()

    def types(self) -> list[FrameType]:
        return [frame.type for frame in self.seen if frame.type is not FrameType.HELLO]


class Listener:
    """Does something with what the application writes.

    Args:
        do: is awaited with the output.
    """

    def __init__(self, do: Callable[[int, bytes], Awaitable[None]]) -> None:
        self.take = do
        self.kept: list[tuple[int, bytes]] = []

    def keep(self, which: int, data: bytes) -> None:
        self.kept.append((which, data))


@contextlib.asynccontextmanager
async def connected(
    directory: Path, handle: Handle, output: list[tuple[int, bytes]] | None = None, greeting: bytes = b""
) -> AsyncIterator[tuple[Agent, FakeAgent]]:
    fake = FakeAgent(handle)
    fake.greeting = greeting
    path = directory / "agent.sock"
    async with await asyncio.start_unix_server(fake.serve, path):

        async def take(which: int, data: bytes) -> None:
            (output or []).append((which, data))

        agent = await Agent.connect(await dial_unix(path), Listener(take), 5)
        try:
            yield agent, fake
        finally:
            await agent.close()


async def accept_all(fake: FakeAgent, frame: Frame) -> None:
    answers = {
        FrameType.START: FrameType.STARTED,
        FrameType.FREEZE: FrameType.FROZEN,
        FrameType.THAW: FrameType.THAWED,
        FrameType.OPEN: FrameType.OPENED,
    }
    if frame.type in answers:
        fake.send(Frame(answers[frame.type], frame.stream))


async def echo(fake: FakeAgent, frame: Frame) -> None:
    await accept_all(fake, frame)
    if frame.type is FrameType.DATA:
        fake.send(Frame(FrameType.WINDOW, frame.stream, encode_u32(len(frame.payload))))
        fake.send(frame)


async def test_requests_are_answered_in_turn(tmp_path: Path) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        await agent.start(APPLICATION)
        await agent.freeze()
        await agent.thaw(fresh_identity("name", "0" * 32))
        assert fake.types() == [FrameType.START, FrameType.FREEZE, FrameType.THAW]


async def test_remains_of_an_earlier_connection_are_skipped(tmp_path: Path) -> None:
    stale = encode(Frame(FrameType.DATA, 7, b"x" * 500))[5:] + encode(Frame(FrameType.HELLO, 0, b"\0" * 20))
    async with connected(tmp_path, accept_all, greeting=stale) as (agent, _):
        await agent.freeze()


async def test_the_greeting_is_repeated_until_the_guest_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_HELLO_INTERVAL_S", 0.01)
    fake = FakeAgent(accept_all)
    fake.silent_greetings = 5
    async with await asyncio.start_unix_server(fake.serve, tmp_path / "agent.sock"):
        agent = await Agent.connect(await dial_unix(tmp_path / "agent.sock"), DropOutput(), 5)
        await agent.freeze()
        await agent.close()


async def test_a_guest_that_never_answers_is_given_up(tmp_path: Path) -> None:
    fake = FakeAgent(accept_all)
    fake.silent_greetings = 1_000_000
    async with await asyncio.start_unix_server(fake.serve, tmp_path / "agent.sock"):
        with pytest.raises(GuestError, match=r"did not answer within 0\.2 s"):
            await Agent.connect(await dial_unix(tmp_path / "agent.sock"), DropOutput(), 0.2)


async def test_a_guest_whose_vmm_ends_is_not_said_to_be_slow(tmp_path: Path) -> None:
    """The socket closes at once: no time limit has anything to do with it."""

    async def end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(end, tmp_path / "agent.sock"):
        with pytest.raises(GuestError, match="ended before it answered"):
            await Agent.connect(await dial_unix(tmp_path / "agent.sock"), DropOutput(), 60)


class EndedVm:
    """A VMM that ends when somebody connects to its agent."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "agent.sock"
        self._ended = asyncio.Event()

    async def dial_agent(self) -> socket.socket:
        return await dial_unix(self.path)

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._ended.set()

    async def wait_exited(self) -> str:
        await self._ended.wait()
        return "QEMU was killed by SIGABRT: Assertion `this' failed"


async def test_a_vmm_that_ends_while_its_agent_is_awaited_is_told_with_its_last_words(tmp_path: Path) -> None:
    vm = EndedVm(tmp_path)
    async with await asyncio.start_unix_server(vm.serve, vm.path):
        with pytest.raises(VmmError, match=r"the VMM ended .* SIGABRT: Assertion `this' failed"):
            await connect_agent(cast("Vm", vm), DropOutput(), 60)


async def test_no_socket_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="the agent's socket does not answer"):
        await Agent.connect(await dial_unix(tmp_path / "missing"), DropOutput(), 1)


async def test_a_refusal_carries_the_guests_words(tmp_path: Path) -> None:
    async def refuse(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.FAILED, 0, b"no such program"))

    async with connected(tmp_path, refuse) as (agent, _):
        with pytest.raises(GuestError, match="no such program"):
            await agent.start(APPLICATION)


async def test_a_request_without_an_answer_ends_in_time(tmp_path: Path) -> None:
    async def ignore(fake: FakeAgent, frame: Frame) -> None:
        """Say nothing."""

    async with connected(tmp_path, ignore) as (agent, _):
        with pytest.raises(GuestError, match=r"did not answer FREEZE within 0\.1 s"):
            await agent.freeze(timeout_s=0.1)


async def test_an_answer_may_come_in_the_instant_in_which_whoever_asked_gives_up(tmp_path: Path) -> None:
    """A future that is awaited is cancelled at once, and the task that awaits it learns of it only later."""
    is_silent = True

    async def handle(fake: FakeAgent, frame: Frame) -> None:
        if not is_silent:
            await accept_all(fake, frame)

    async with connected(tmp_path, handle) as (agent, fake):
        for ask, sent, answer in (
            (agent.freeze(), FrameType.FREEZE, Frame(FrameType.FROZEN, 0, b"")),
            (agent.open_stream(80, 5), FrameType.OPEN, Frame(FrameType.OPENED, 1, b"")),
        ):
            asked = asyncio.create_task(ask)
            await wait_for_async("it is asked", lambda sent=sent: sent in fake.types())
            asked.cancel()
            agent._take(answer)
            with pytest.raises(asyncio.CancelledError):
                await asked
        is_silent = False
        await agent.thaw(fresh_identity())
        await agent.open_stream(80, 5)
        assert agent.is_connected()


async def test_an_answer_that_comes_too_late_is_not_taken_for_another(tmp_path: Path) -> None:
    late = asyncio.Event()

    async def hesitate(fake: FakeAgent, frame: Frame) -> None:
        if frame.type is FrameType.FREEZE:
            await late.wait()
        await accept_all(fake, frame)

    async with connected(tmp_path, hesitate) as (agent, _):
        with pytest.raises(GuestError, match="did not answer FREEZE"):
            await agent.freeze(timeout_s=0.1)
        late.set()
        await agent.thaw(fresh_identity())
        await agent.freeze()


async def test_a_wrong_answer_is_an_error(tmp_path: Path) -> None:
    async def confuse(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.STARTED))

    async with connected(tmp_path, confuse) as (agent, _):
        with pytest.raises(GuestError, match="answered FREEZE with STARTED"):
            await agent.freeze()


async def test_output_and_exit_are_passed_on(tmp_path: Path) -> None:
    async def talk(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.OUTPUT, 1, b"out"))
        fake.send(Frame(FrameType.OUTPUT, 2, b"err"))
        fake.send(Frame(FrameType.STARTED))
        fake.send(Frame(FrameType.EXITED, 0, encode_u32(3)))
        fake.send(Frame(FrameType.EXITED, 0, encode_u32(4)))  # a guest that says it twice does no harm

    output: list[tuple[int, bytes]] = [(0, b"")]
    async with connected(tmp_path, talk, output) as (agent, _):
        await agent.start(APPLICATION)
        assert await asyncio.wait_for(agent.exited, 5) == 3
    assert output[1:] == [(1, b"out"), (2, b"err")]


async def test_streams_carry_bytes_both_ways(tmp_path: Path) -> None:
    async with connected(tmp_path, echo) as (agent, fake):
        one, other = await agent.open_stream(80, 5), await agent.open_stream(81, 5)
        await one.write(b"one")
        await other.write(b"other")
        assert (await one.read(), await other.read()) == (b"one", b"other")
        one.close()
        one.close()
        assert FrameType.CLOSE not in fake.types() or fake.types().count(FrameType.CLOSE) == 1
        opened = [frame.payload for frame in fake.seen if frame.type is FrameType.OPEN]
        assert opened == [struct.pack("<H", 80), struct.pack("<H", 81)]


async def test_a_large_write_waits_for_the_guests_window(tmp_path: Path) -> None:
    sizes: list[int] = []

    async def take_slowly(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        if frame.type is FrameType.DATA:
            sizes.append(len(frame.payload))

    async with connected(tmp_path, take_slowly) as (agent, fake):
        stream = await agent.open_stream(80, 5)
        writing = asyncio.create_task(stream.write(b"x" * (STREAM_WINDOW_BYTES + 10)))
        async with asyncio.timeout(60):
            while sum(sizes) < STREAM_WINDOW_BYTES:  # noqa: ASYNC110 - the other side counts
                await asyncio.sleep(0.01)
        assert not writing.done()
        fake.send(Frame(FrameType.WINDOW, 1, encode_u32(STREAM_WINDOW_BYTES)))
        await asyncio.wait_for(writing, 5)
    assert sum(sizes) == STREAM_WINDOW_BYTES + 10


async def test_a_guest_that_overruns_the_window_loses_the_connection(tmp_path: Path) -> None:
    async def flood(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        for _ in range(STREAM_WINDOW_BYTES // 65536 + 1 if frame.type is FrameType.OPEN else 0):
            fake.send(Frame(FrameType.DATA, frame.stream, b"x" * 65536))

    async with connected(tmp_path, flood) as (agent, _):
        await agent.open_stream(80, 5)
        with pytest.raises(GuestError, match="overran a stream's window"):
            await agent.freeze()


async def test_a_closed_port_is_refused(tmp_path: Path) -> None:
    async def close(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.CLOSE, frame.stream, encode_u32(111)))

    async with connected(tmp_path, close) as (agent, _):
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            await agent.open_stream(80, 5)


async def test_the_end_of_the_connection_reaches_everyone_who_waits(tmp_path: Path) -> None:
    async def die(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        if frame.type is FrameType.FREEZE:
            fake.hang_up()

    async with connected(tmp_path, die) as (agent, _):
        stream = await agent.open_stream(80, 5)
        reading = asyncio.create_task(stream.read())
        with contextlib.suppress(GuestError):
            await agent.freeze(timeout_s=5)
        with pytest.raises(GuestError, match="broke"):
            await asyncio.wait_for(reading, 5)
        with pytest.raises(GuestError, match="ended"):
            await agent.thaw(fresh_identity())
        with pytest.raises(GuestError, match="ended"):
            await agent.open_stream(80, 5)


async def test_frames_of_unknown_streams_do_no_harm(tmp_path: Path) -> None:
    async def stray(fake: FakeAgent, frame: Frame) -> None:
        for kind in (FrameType.DATA, FrameType.EOF, FrameType.CLOSE, FrameType.WINDOW, FrameType.OPENED):
            fake.send(Frame(kind, 4242, b"\0\0\0\0"))
        await accept_all(fake, frame)

    async with connected(tmp_path, stray) as (agent, _):
        await agent.freeze()


async def test_garbage_ends_the_connection_with_a_reason(tmp_path: Path) -> None:
    async def garbage(fake: FakeAgent, frame: Frame) -> None:
        fake.send_raw(b"\xff" * 64)

    async with connected(tmp_path, garbage) as (agent, _):
        with pytest.raises(GuestError, match="announced a frame of"):
            await agent.freeze()


def test_identities_are_fresh() -> None:
    one, other = fresh_identity(), fresh_identity()
    assert one.entropy != other.entropy
    assert len(one.entropy) == 64


# --- HTTP over the channel


def answering(text: bytes) -> Handle:
    async def handle(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        if frame.type is FrameType.DATA:
            fake.send(Frame(FrameType.DATA, frame.stream, text))
            fake.send(Frame(FrameType.EOF, frame.stream))

    return handle


async def test_a_hook_is_posted_and_its_answer_read(tmp_path: Path) -> None:
    text = b"HTTP/1.1 503 Wait\r\ncontent-length: 5\r\n\r\nlater"
    async with connected(tmp_path, answering(text)) as (agent, fake):
        answer = await http.post(agent, 9000, "/path", b'{"a": 1}', {"content-type": "application/json"}, 5)
        assert (answer.status, answer.body) == (503, b"later")
        sent = b"".join(frame.payload for frame in fake.seen if frame.type is FrameType.DATA)
        assert sent.startswith(b"POST /path HTTP/1.1\r\n")
        assert b"Host: localhost:9000\r\n" in sent
        assert sent.endswith(b'\r\n\r\n{"a": 1}')


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b""])
async def test_an_answer_that_is_not_http_is_a_guest_error(tmp_path: Path, text: bytes) -> None:
    async with connected(tmp_path, answering(text)) as (agent, _):
        with pytest.raises(GuestError):
            await http.post(agent, 9000, "/", b"", {}, 5)


async def test_a_huge_answer_is_cut(tmp_path: Path) -> None:
    body = b"x" * 60000
    text = b"HTTP/1.1 200 OK\r\n\r\n" + body

    async def handle(fake: FakeAgent, frame: Frame) -> None:
        await accept_all(fake, frame)
        if frame.type is FrameType.DATA:
            fake.send(Frame(FrameType.DATA, frame.stream, text))
            fake.send(Frame(FrameType.DATA, frame.stream, body))
            fake.send(Frame(FrameType.EOF, frame.stream))

    async with connected(tmp_path, handle) as (agent, _):
        assert len((await http.post(agent, 1, "/", b"", {}, 5)).body) == http.BODY_LIMIT


async def test_a_hook_that_hangs_ends_in_time(tmp_path: Path) -> None:
    async with connected(tmp_path, accept_all) as (agent, _):
        with pytest.raises(TimeoutError):
            await http.post(agent, 9000, "/", b"", {}, 0.1)


async def freeze_for_ever(agent: Agent) -> None:
    while True:
        await agent.freeze()


async def test_a_connection_from_the_guest_waits_for_its_handler(tmp_path: Path) -> None:
    served: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(stream: GuestStream) -> None:
        served.put_nowait(await stream.read())
        await stream.write(b"answer")

    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS + 7))
        fake.send(Frame(FrameType.DATA, GUEST_STREAMS + 7, b"question"))
        await agent.freeze()  # what was sent before has been taken, and is still not lost
        fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS + 8))
        fake.send(Frame(FrameType.DATA, GUEST_STREAMS + 8, b"another"))
        await agent.thaw(fresh_identity())
        agent.serve(serve)
        assert await served.get() == b"another"  # a freeze drops all streams: the first is gone


class Names:
    """A name server that answers once it is let."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.served: list[GuestStream] = []
        self.let = asyncio.Event()

    async def answer(self, query: bytes) -> bytes | None:
        self.asked.append(query)
        await self.let.wait()
        return None if query == b"drop" else b"answer to " + query

    async def serve(self, stream: GuestStream) -> None:
        self.served.append(stream)


async def test_questions_for_the_name_server_are_answered_by_their_number(tmp_path: Path) -> None:
    """Datagrams and connections; the metadata service's connections are not its own."""
    names = Names()
    names.let.set()
    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS, b"\x50\0"))
        fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS + 1, b"\x35\0"))
        fake.send(Frame(FrameType.QUERY, 1, b"before anybody answers"))
        await agent.rehearse_thaw(fresh_identity())  # all of that has been taken
        agent.serve_names(names)
        for number, query in ((7, b"drop"), (8, b"a.test")):
            fake.send(Frame(FrameType.QUERY, number, query))
        await wait_for_async("the answer", lambda: [f for f in fake.seen if f.type is FrameType.ANSWER])
        assert [f for f in fake.seen if f.type is FrameType.ANSWER] == [Frame(FrameType.ANSWER, 8, b"answer to a.test")]
        assert names.asked == [b"drop", b"a.test"]
        assert len(names.served) == 1


async def test_questions_beyond_what_the_agent_remembers_are_dropped(tmp_path: Path) -> None:
    names = Names()
    async with connected(tmp_path, accept_all) as (agent, fake):
        agent.serve_names(names)
        for number in range(1000):
            fake.send(Frame(FrameType.QUERY, number, b"%d" % number))
        await agent.rehearse_thaw(fresh_identity())
        await asyncio.sleep(0)
        assert len(names.asked) == 32


async def test_a_service_that_does_not_exist_cuts_the_guest_off(tmp_path: Path) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS, b"\x51\0"))
        with pytest.raises(GuestError):
            await freeze_for_ever(agent)


async def test_a_stream_says_at_which_address_the_port_was_open(tmp_path: Path) -> None:
    async def open_at(fake: FakeAgent, frame: Frame) -> None:
        if frame.type is FrameType.OPEN:
            fake.send(Frame(FrameType.OPENED, frame.stream, b"\1"))

    async with connected(tmp_path, open_at) as (agent, _):
        assert (await agent.open_stream(8082, 5)).place is Place.LOOPBACK6


@pytest.mark.parametrize("stream", [5, GUEST_STREAMS - 1])
async def test_a_guest_that_takes_an_id_of_the_hosts_is_cut_off(tmp_path: Path, stream: int) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        fake.send(Frame(FrameType.ACCEPTED, stream))
        with pytest.raises(GuestError):
            await freeze_for_ever(agent)


async def test_a_guest_that_opens_streams_without_end_is_cut_off(tmp_path: Path) -> None:
    async with connected(tmp_path, accept_all) as (agent, fake):
        for number in range(1000):
            fake.send(Frame(FrameType.ACCEPTED, GUEST_STREAMS + number))
        with pytest.raises(GuestError):
            await freeze_for_ever(agent)


# --- the clock


def clock_of(frame: Frame) -> int:
    """Return the clock that a THAW tells: the last field."""
    kind, length = struct.unpack_from("<BI", frame.payload, len(frame.payload) - 13)
    assert (kind, length) == (ThawField.CLOCK, 8)
    (clock_ns,) = struct.unpack("<Q", frame.payload[-8:])
    return int(clock_ns)


async def test_a_guest_is_told_the_time_at_which_it_is_told(tmp_path: Path) -> None:
    """Its identity may be older: launches wait for their turn, copy a disk and start a VMM."""
    identity = fresh_identity("name", "0" * 32)
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def hesitate(fake: FakeAgent, frame: Frame) -> None:
        begun.set()
        await go_on.wait()
        await accept_all(fake, frame)

    async with connected(tmp_path, hesitate) as (agent, fake):
        freezing = asyncio.create_task(agent.freeze())
        await begun.wait()
        thawing = asyncio.create_task(agent.thaw(identity))  # it waits for its turn here, too
        await asyncio.sleep(0)
        before = time.time_ns()
        go_on.set()
        await asyncio.gather(freezing, thawing)
        await agent.rehearse_thaw(identity)
        told = [clock_of(frame) for frame in fake.seen if frame.type is FrameType.THAW]
        assert before <= told[0] <= told[1] <= time.time_ns()


async def test_a_launch_that_waits_for_its_turn_has_the_time_of_its_start(tmp_path: Path) -> None:
    """Through the machine layer: the identity is made when the launch is asked for, the clock when the guest wakes."""
    async with connected(tmp_path, accept_all) as (agent, fake):
        space = DiskSpace(tmp_path, 0)
        parts = Parts(tmp_path, None, cast("Vm", None), CAPABILITIES, agent, UserConnection(), space)
        guest = Guest(parts, contextlib.AsyncExitStack())
        identity = fresh_identity("name", "0" * 32)
        launches = asyncio.Semaphore(1)

        async def launch() -> None:
            async with launches:
                await guest.wake(identity)

        async with launches:
            launching = asyncio.create_task(launch())
            await asyncio.sleep(0.05)
            before = time.time_ns()
        await launching
        (thaw,) = [frame for frame in fake.seen if frame.type is FrameType.THAW]
        assert before <= clock_of(thaw) <= time.time_ns()
