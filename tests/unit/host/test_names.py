"""The host's name servers: which of them guests reach, and asking them for guests, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from emberbox.byte_streams import SocketStream, listen_with
from emberbox.host import names
from emberbox.host.names import CONNECTIONS_MAX, QUERIES_MAX, NameListener, NameRelay, find_direct_server, read_servers
from emberbox.host.ports import free_port
from support.name_server import MANY, NameServer, serve_names

LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "servers", "direct"),
    [
        ("nameserver 192.0.2.53\n", ("192.0.2.53",), "192.0.2.53"),
        ("# nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.53 # ours\n", ("192.0.2.53",), "192.0.2.53"),
        ("nameserver fe80::1%eth0\nnameserver 192.0.2.53\n", ("fe80::1%eth0", "192.0.2.53"), "192.0.2.53"),
        (
            "nameserver ::1\nnameserver 127.0.0.1\nnameserver 192.0.2.9\n",
            ("::1", "127.0.0.1", "192.0.2.9"),
            "192.0.2.9",
        ),
        ("nameserver 127.0.0.1\n", ("127.0.0.1",), None),
        ("nameserver 2001:db8::53\n", ("2001:db8::53",), None),
        ("nameserver 127.0.0.53\n", ("127.0.0.53",), "192.0.2.77"),
        ("nameserver\nnameserver here\nnameserver ::", ("::",), None),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)),
            ("192.0.2.1", "192.0.2.2", "192.0.2.3"),
            "192.0.2.1",
        ),
        ("", ("127.0.0.1",), None),
    ],
)
def test_what_resolv_conf_says(tmp_path: Path, text: str, servers: tuple[str, ...], direct: str | None) -> None:
    """Guests reach IPv4 addresses of others only; of systemd-resolved the servers that it asks itself."""
    (tmp_path / "resolv.conf").write_text(text)
    (tmp_path / "upstreams").write_text("nameserver 192.0.2.77\n")
    assert read_servers(tmp_path / "resolv.conf") == servers
    assert find_direct_server(tmp_path / "resolv.conf", tmp_path / "upstreams") == direct


def test_a_host_without_resolv_conf_asks_itself(tmp_path: Path) -> None:
    assert read_servers(tmp_path / "none") == ("127.0.0.1",)


def test_a_name_server_at_an_address_of_the_host_itself_is_not_reached_by_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is closed to guests at all its addresses, not at its loopback alone."""
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    real = socket.socket.bind
    owned = lambda bound, where: real(bound, (LOOPBACK, 0) if where[0] == "192.0.2.53" else where)  # noqa: E731

    class Bound(socket.socket):
        bind = owned

    monkeypatch.setattr(names.socket, "socket", Bound)
    assert find_direct_server(tmp_path / "resolv.conf") is None


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(port: int) -> Iterator[NameServer]:
    with serve_names(LOOPBACK, "192.0.2.1", port=port) as server:
        yield server


def query(name: str, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2) + b"\1\0\0\1" + bytes(6) + labels + b"\0\0\1\0\1"


def address_in(answer: bytes | None) -> str:
    assert answer is not None
    return socket.inet_ntoa(answer[-4:])


def relay_to(*servers: str, port: int) -> NameRelay:
    return NameRelay(lambda: servers, port)


async def test_a_question_is_asked_as_it_is(server: NameServer, port: int) -> None:
    answer = await relay_to(LOOPBACK, port=port).answer(query("a.test", 0x1234))
    assert answer is not None
    assert answer[:2] == b"\x12\x34"
    assert address_in(answer) == "192.0.2.1"
    assert server.asked == [("udp", LOOPBACK, "a.test")]


async def test_the_next_server_is_asked_where_one_does_not_answer(server: NameServer, port: int) -> None:
    assert address_in(await relay_to("127.0.0.9", LOOPBACK, port=port).answer(query("a.test"))) == "192.0.2.1"


async def test_what_nobody_answers_is_told_at_once(port: int) -> None:
    """SERVFAIL where servers fail, REFUSED where nobody is to be asked; the question stands in the answer."""
    asked = query("a.test")
    for servers, code in (((LOOPBACK,), 2), ((), 5)):
        answer = await NameRelay(lambda servers=servers: servers, port).answer(asked)  # type: ignore[misc]
        assert answer == asked[:2] + bytes([0x81, code]) + asked[4:]


@pytest.mark.parametrize("junk", [b"", b"short", bytes(5000)])
async def test_what_is_no_question_goes_nowhere(server: NameServer, port: int, junk: bytes) -> None:
    assert await relay_to(LOOPBACK, port=port).answer(junk) is None
    assert server.asked == []


async def test_an_answer_to_another_question_does_not_count(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ANSWER_TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind((LOOPBACK, port))
        asking = asyncio.create_task(relay_to(LOOPBACK, port=port).answer(query("a.test", 7)))
        _, asker = await asyncio.to_thread(liar.recvfrom, 512)
        liar.sendto(query("a.test", 8), asker)
        answer = await asking
    assert answer is not None
    assert answer[3] == 2


async def test_questions_under_way_are_bounded(port: int) -> None:
    """What is too much is dropped, and room is there again when answers have come."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, port))
        relay = relay_to(LOOPBACK, port=port)
        tasks = [asyncio.create_task(relay.answer(query("a.test", number))) for number in range(QUERIES_MAX)]
        await asyncio.sleep(0)
        assert await relay.answer(query("b.test")) is None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answer = await relay.answer(query("b.test"))
    assert answer is not None


async def test_a_guest_may_ask_so_often_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood costs nobody else: what is over the rate is not asked."""
    relay = NameRelay(lambda: ())
    answers = [await relay.answer(query("a.test")) for _ in range(3 * names.QUERIES_PER_S)]
    assert names.QUERIES_PER_S <= sum(answer is not None for answer in answers) < 3 * names.QUERIES_PER_S


@pytest.fixture
async def listener(port: int) -> AsyncIterator[Callable[[NameRelay], int]]:
    """Lets a relay answer at UDP and TCP sockets of one port."""
    opened: list[NameListener] = []

    async def listen(relay: NameRelay) -> int:
        where = (LOOPBACK, free_port())
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind(where)
        stream = socket.socket()
        stream.bind(where)
        opened.append(await NameListener.open(datagram, stream, relay))
        return where[1]

    yield listen  # type: ignore[misc]
    for one in opened:
        one.close()


async def test_a_long_answer_comes_by_tcp(server: NameServer, port: int, listener: Callable[..., object]) -> None:
    """Several questions on one connection, and the connection ends when the guest ends it."""
    at = await listener(relay_to(LOOPBACK, port=port))  # type: ignore[misc]
    reader, writer = await asyncio.open_connection(LOOPBACK, at)
    for _ in range(2):
        asked = query("many.test")
        writer.write(len(asked).to_bytes(2) + asked)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        assert int.from_bytes(answer[6:8]) == MANY
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_connections_are_bounded(server: NameServer, port: int, listener: Callable[..., object]) -> None:
    at = await listener(relay_to(LOOPBACK, port=port))  # type: ignore[misc]
    held = [await asyncio.open_connection(LOOPBACK, at) for _ in range(CONNECTIONS_MAX)]
    asked = query("a.test")
    for reader, writer in held:
        writer.write(len(asked).to_bytes(2) + asked)
        await reader.readexactly(2)
    reader, writer = await asyncio.open_connection(LOOPBACK, at)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    for _, writer in held:
        writer.close()


async def test_a_connection_that_nobody_can_take_is_closed(port: int, listener: Callable[..., object]) -> None:
    at = await listener(relay_to(LOOPBACK, port=port))  # type: ignore[misc]
    reader, writer = await asyncio.open_connection(LOOPBACK, at)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_joined_streams_end_and_break_together() -> None:
    """What one side has said arrives before its end; where one breaks, the other does."""
    near, far = await pair(), await pair()
    joined = asyncio.create_task(names.join(near[0], far[0]))
    near[1].write(b"question")
    near[1].write_eof()
    assert await far[2].read() == b"question"
    far[1].write(b"answer")
    far[1].write_eof()
    assert await near[2].read() == b"answer"
    await joined

    near, far = await pair(), await pair()
    joined = asyncio.create_task(names.join(near[0], far[0]))
    SocketStream(far[2], far[1]).close()
    with pytest.raises(ConnectionError):
        await near[2].readexactly(1)
    await joined


async def pair() -> tuple[SocketStream, asyncio.StreamWriter, asyncio.StreamReader]:
    """Return one end of a TCP connection as a stream, and the other end."""
    accepted: asyncio.Future[SocketStream] = asyncio.get_running_loop().create_future()
    listening = socket.create_server((LOOPBACK, 0))

    async def serve(stream: SocketStream) -> None:
        accepted.set_result(stream)

    server = await listen_with(listening, serve)
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    stream = await accepted
    server.close()
    return stream, writer, reader
