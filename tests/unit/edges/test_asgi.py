"""Serving an ASGI application: what a client sees of an answer, and when."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import websockets

from emberbox.edges import asgi
from emberbox.edges.connection_guard import GuardedProtocol, GuardLimits

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n"


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"body"})


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every piece that is written to a client."""
    written: list[bytes] = []
    made = asgi._Gathering.__init__

    class Seen:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    monkeypatch.setattr(asgi._Gathering, "__init__", lambda self, transport: made(self, Seen(transport)))  # type: ignore[arg-type]
    return written


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_an_answer_is_written_in_one_piece(writes: list[bytes], more: bytes) -> None:
    """A server that is killed leaves a client with all of it or nothing: botocore takes a head alone for a success."""
    with listener() as bound:
        port = bound.getsockname()[1]
        async with asgi.serve(answer, bound, 5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(1 if more else 2):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(HEAD)
                assert await reader.readexactly(4) == b"body"
            if more:
                assert await reader.read() == b""
            writer.close()
    assert [piece.startswith(HEAD) and piece.endswith(b"\r\n\r\nbody") for piece in writes] == [True] * len(writes)
    assert len(writes) == (1 if more else 2)


# --- clients that nobody knows


LIMITS = GuardLimits(connections=2000, head_s=0.3, request_s=0.6, answer_s=0.3, sweep_s=0.05)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def guarded(app: Any = answer, **changes: Any) -> AsyncIterator[int]:
    """Serve with such limits; returns the port."""
    with listener() as bound:
        async with asgi.serve(app, bound, 60, limits=replace(LIMITS, **changes)):
            yield bound.getsockname()[1]


class Client:
    """A connection that says something and then waits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, said: bytes = b"") -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(said)
        return client

    async def ask(self) -> bytes:
        self.writer.write(REQUEST)
        await self.reader.readuntil(b"\r\n\r\n")
        return await self.reader.readexactly(4)

    async def wait_closed(self) -> bytes:
        """Wait until the server closes the connection; return what it said before."""
        try:
            async with asyncio.timeout(60):
                said = await self.reader.read()
        except ConnectionError:
            said = b""
        self.writer.close()
        return said


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: half",
        b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
    ],
    ids=["nothing", "half a head", "an empty line", "half a body"],
)
async def test_what_does_not_come_in_time_is_not_waited_for(said: bytes) -> None:
    async with guarded(wait_for_body) as port:
        client = await Client.connect(port, said)
        assert await client.wait_closed() == b""


async def wait_for_body(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await answer(scope, receive, send)


async def test_who_says_something_now_and_then_is_not_waited_for_either() -> None:
    """Neither in a head, nor with empty lines after an answer, nor in a body that the answer did not wait for."""
    async with guarded() as port:
        clients = [
            await Client.connect(port, b"GET / HTTP/1.1\r\n"),
            await Client.connect(port, REQUEST),
            await Client.connect(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"),
        ]
        drips = (b"a: b\r\n", b"\r\n", b"x")
        while not all(client.reader.at_eof() or client.writer.is_closing() for client in clients):
            for client, drip in zip(clients, drips, strict=True):
                if not client.writer.is_closing():
                    client.writer.write(drip)
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(0.01):
                        if await client.reader.read(1000) == b"":
                            client.writer.close()
        for client in clients:
            client.writer.close()


async def test_a_thousand_halves_are_closed_and_nobody_else_notices() -> None:
    async with guarded() as port:
        halves = [await Client.connect(port, b"GET / HTTP/1.1\r\nHost: half") for _ in range(1000)]
        ordinary = await Client.connect(port)
        assert await ordinary.ask() == b"body"
        assert await asyncio.gather(*(half.wait_closed() for half in halves)) == [b""] * 1000
        assert await ordinary.ask() == b"body"
        ordinary.writer.close()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: " + b"x" * 400_000,
        b"GET /" + b"x" * 400_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 70_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"a: b\r\n" * 70_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 400_000,
    ],
    ids=["a header", "the path", "headers", "trailers", "a chunk's extension"],
)
async def test_a_head_without_end_is_not_kept(said: bytes) -> None:
    async with guarded(wait_for_body, head_s=60, request_s=60) as port:
        client = await Client.connect(port, said)
        assert (await client.wait_closed())[9:12] in (b"431", b"400", b"")


async def test_requests_in_a_row_have_a_limit() -> None:
    """Those that are within it are answered one after the other."""
    async with guarded(head_s=60, request_s=60) as port:
        client = await Client.connect(port, REQUEST * 10)
        for _ in range(10):
            await client.reader.readuntil(b"\r\n\r\n")
            assert await client.reader.readexactly(4) == b"body"
        client.writer.close()
        greedy = await Client.connect(port, REQUEST * 5000)
        assert (await greedy.wait_closed()).count(b"HTTP/1.1 200") < 50


async def test_who_waits_makes_room_for_who_asks() -> None:
    held, release = asyncio.Semaphore(0), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            held.release()
            await release.wait()
        await answer(scope, receive, send)

    async with guarded(slow, connections=5, head_s=60, request_s=60) as port:
        silent = [await Client.connect(port) for _ in range(5)]
        ordinary = [await Client.connect(port) for _ in range(10)]
        for client in ordinary[5:]:  # each took the place of one that said nothing, or less than it
            assert await client.ask() == b"body"
        assert [await client.wait_closed() for client in silent + ordinary[:5]] == [b""] * 10
        busy = [await Client.connect(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(5)]
        for _ in busy:
            await held.acquire()
        assert [await client.wait_closed() for client in ordinary[5:]] == [b""] * 5
        refused = await Client.connect(port, REQUEST)
        assert (await refused.wait_closed()).startswith(b"HTTP/1.1 503")
        release.set()
        for client in busy:
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            client.writer.close()


async def test_a_request_that_is_being_answered_has_all_the_time_it_needs() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1)
        await answer(scope, receive, send)

    async with guarded(slow, head_s=0.1, request_s=0.1) as port:
        client = await Client.connect(port)
        assert await client.ask() == b"body"
        client.writer.close()


async def test_an_answer_that_nobody_reads_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, lose = asyncio.Event(), GuardedProtocol.connection_lost

    def note_loss(connection: GuardedProtocol, error: Exception | None) -> None:
        lose(connection, error)
        lost.set()

    monkeypatch.setattr(GuardedProtocol, "connection_lost", note_loss)

    async def large(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (64 << 20))]})
        await send({"type": "http.response.body", "body": bytes(64 << 20)})

    async with guarded(large) as port, asyncio.timeout(60):
        client = await Client.connect(port, REQUEST)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await lost.wait()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await client.wait_closed()) < 64 << 20


async def test_a_websocket_is_nothing_of_the_guards_and_may_be_silent() -> None:
    """Its bounds are those of who answers it: it takes no place, and is not closed for what it does not say."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        said = await receive()
        await send({"type": "websocket.send", "text": said["text"]})

    limits = replace(LIMITS, connections=1)
    with listener() as bound:
        port = bound.getsockname()[1]
        async with (
            asgi.serve(echo, bound, 5, limits=limits, websocket_message_bytes=1000),
            websockets.connect(f"ws://127.0.0.1:{port}/") as socket_of_client,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(HEAD)
            writer.close()
            await asyncio.sleep(3 * LIMITS.request_s)
            await socket_of_client.send("still here")
            assert await socket_of_client.recv() == "still here"
