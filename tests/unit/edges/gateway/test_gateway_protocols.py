"""What the endpoint speaks to clients and guests: WebSockets, HTTP/2, gRPC, TLS; with real servers as guests."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from gateway_world import SUFFIX, World
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.endpoints import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKER = "lambda-microvms"


def own(world: World, token: str | None = None, port: str | None = None) -> list[str]:
    """The endpoint's own subprotocols, as a browser sends them."""
    protocols = [MARKER, f"{MARKER}.authentication.{token or world.token()}"]
    return [*protocols, f"{MARKER}.port.{port}"] if port is not None else protocols


@contextlib.asynccontextmanager
async def echo_guest(
    world: World, tls: ssl.SSLContext | None = None, chooses: list[str] | None = None
) -> AsyncIterator[list[ServerConnection]]:
    """Put a WebSocket server that says everything back behind port 8080 of mvm-a."""
    seen: list[ServerConnection] = []

    async def echo(connection: ServerConnection) -> None:
        seen.append(connection)
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=tls, subprotocols=chooses) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, f"mvm-a.{port}")
        yield seen


def open_websocket(world: World, protocols: list[str] | None, headers: dict[str, str] | None = None) -> connect:
    """Open a WebSocket as a browser does: at the endpoint's name, with subprotocols alone."""
    return connect(
        f"wss://aaaa.{SUFFIX}/chat?x=1",
        host="127.0.0.1",
        port=world.gateway.port,
        ssl=world.trust(),
        subprotocols=protocols,  # type: ignore[arg-type]
        additional_headers=headers,
        compression=None,
        proxy=None,
    )


async def echoes(socket: ClientConnection) -> None:
    await socket.send("grüße")
    assert await asyncio.wait_for(socket.recv(), 10) == "grüße"
    await socket.send(b"\0" * 200_000)
    assert await asyncio.wait_for(socket.recv(), 10) == b"\0" * 200_000


async def test_a_browser_opens_a_websocket_by_subprotocols_alone(world: World) -> None:
    async with echo_guest(world) as seen, open_websocket(world, own(world)) as socket:
        await echoes(socket)
        assert socket.subprotocol == MARKER
        assert seen[0].request is not None
        assert "sec-websocket-protocol" not in seen[0].request.headers
        assert seen[0].request.path == "/chat?x=1"
        assert not [name for name in seen[0].request.headers if name.lower().startswith(("x-aws", "x-ember"))]


async def test_the_applications_own_subprotocol_passes_both_ways(world: World) -> None:
    offered = ["graphql-ws", *own(world), "chat.v2"]
    async with echo_guest(world, chooses=["chat.v2"]) as seen, open_websocket(world, offered) as socket:
        await echoes(socket)
        assert socket.subprotocol == "chat.v2"
        assert seen[0].request is not None
        assert seen[0].request.headers["sec-websocket-protocol"] == "graphql-ws, chat.v2"


async def test_the_endpoint_chooses_its_marker_when_the_application_chooses_none(world: World) -> None:
    async with echo_guest(world) as seen, open_websocket(world, [*own(world), "other"]) as socket:
        assert socket.subprotocol == MARKER
        assert seen[0].request is not None
        assert seen[0].request.headers["sec-websocket-protocol"] == "other"


async def test_without_the_endpoints_subprotocols_nothing_is_chosen_for_the_application(world: World) -> None:
    token = {"X-aws-proxy-auth": world.token()}
    async with echo_guest(world) as seen, open_websocket(world, ["other"], token) as socket:
        await echoes(socket)
        assert socket.subprotocol is None
        assert seen[0].request is not None
        assert seen[0].request.headers["sec-websocket-protocol"] == "other"


async def test_the_port_subprotocol_chooses_the_port_and_a_header_wins(world: World) -> None:
    token = world.token(allowed_ports=[{"port": 9000}])
    async with echo_guest(world):
        world.directory.upstreams["mvm-a", 9000] = world.directory.upstreams.pop(("mvm-a", 8080))
        async with open_websocket(world, own(world, token, "9000")) as socket:
            await echoes(socket)
        async with open_websocket(world, own(world, token, "9001"), {"X-aws-proxy-port": "9000"}) as socket:
            await echoes(socket)
    assert world.directory.connects == [("mvm-a", 9000), ("mvm-a", 9000)]


async def refusal(world: World, protocols: list[str]) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with open_websocket(world, protocols):
            pytest.fail("it opened")
    return refused.value.response.status_code


async def test_subprotocols_that_must_not_open_a_websocket_are_refused(world: World) -> None:
    async with echo_guest(world) as seen:
        assert await refusal(world, own(world)[1:]) == 403  # the marker is missing
        assert await refusal(world, [MARKER]) == 403
        assert await refusal(world, own(world, world.token("mvm-b"))) == 403
        assert await refusal(world, own(world, world.token()[:-4] + "AAAA")) == 403
        assert await refusal(world, [*own(world), *own(world)[1:]]) == 403
        assert await refusal(world, own(world, port="22")) == 403
        assert await refusal(world, own(world, port="x")) == 400
        assert await refusal(world, [*own(world, port="8080"), f"{MARKER}.port.8081"]) == 400
        assert seen == []


async def test_the_endpoints_subprotocols_never_reach_a_guest_even_without_the_marker(world: World) -> None:
    offered = [*own(world)[1:], "other"]
    headers = {"X-aws-proxy-auth": world.token()}
    async with echo_guest(world) as seen, open_websocket(world, offered, headers):
        assert seen[0].request is not None
        assert seen[0].request.headers["sec-websocket-protocol"] == "other"


async def test_a_websocket_opens_over_http2_too(world: World) -> None:
    """RFC 8441: an extended CONNECT, which the guest sees as an ordinary upgrade."""
    tls = world.trust()
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.gateway.port, ssl=tls, server_hostname="localhost"
    )
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    state.initiate_connection()
    protocols = ", ".join(own(world))
    async with echo_guest(world) as seen:
        state.send_headers(
            1,
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", f"aaaa.{SUFFIX}"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", protocols),
            ],
        )
        frame = b"\x81\x82\0\0\0\0hi"  # a text frame of a client: masked, with a mask of zeros
        state.send_data(1, frame)
        writer.write(state.data_to_send())
        headers: dict[bytes, bytes] = {}
        received = b""
        while b"hi" not in received:
            for event in state.receive_data(await asyncio.wait_for(reader.read(65536), 10)):
                if isinstance(event, h2.events.ResponseReceived):
                    headers = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    received += event.data
            writer.write(state.data_to_send())
        writer.close()
        assert headers[b":status"] == b"200"
        assert headers[b"sec-websocket-protocol"] == MARKER.encode()
        assert received == b"\x81\x02hi"
        assert seen[0].request is not None
        assert "sec-websocket-protocol" not in seen[0].request.headers


# --- TLS, found by itself


@pytest.fixture(scope="module")
def guest_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    made = ensure_certificates(tmp_path_factory.mktemp("tls"), ["guest.internal"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate_path, made.key_path)
    return context


@contextlib.asynccontextmanager
async def http1_guest(world: World, tls: ssl.SSLContext | None) -> AsyncIterator[asyncio.Server]:
    """Put a server for HTTP/1.1, that tells whether it speaks TLS, behind port 8080 of mvm-a."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                line = await reader.readline()
                if not line.endswith(b"HTTP/1.1\r\n"):
                    return
                await reader.readuntil(b"\r\n\r\n")
                body = b"secured" if tls else b"in the clear"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, f"mvm-a.{port}")
    try:
        yield server
    finally:
        server.close()


async def test_a_guest_that_speaks_tls_is_found_out_and_spoken_to_in_tls(
    fresh_world: World, guest_tls: ssl.SSLContext
) -> None:
    async with http1_guest(fresh_world, guest_tls):
        answers = await asyncio.gather(*(fresh_world.request() for _ in range(5)))
        assert {(a.status_code, a.text) for a in answers} == {(200, "secured")}


async def test_a_websocket_to_a_guest_that_speaks_tls(fresh_world: World, guest_tls: ssl.SSLContext) -> None:
    guest_tls.set_alpn_protocols(["http/1.1"])
    async with echo_guest(fresh_world, guest_tls), open_websocket(fresh_world, own(fresh_world)) as socket:
        await echoes(socket)


async def test_http2_is_agreed_with_a_guest_by_alpn(fresh_world: World, guest_tls: ssl.SSLContext) -> None:
    guest_tls.set_alpn_protocols(["h2"])
    async with http2_guest(fresh_world, guest_tls) as seen:
        answer = await fresh_world.request(method="POST", content=b"x" * 100_000)
        assert (answer.status_code, answer.text) == (200, "over h2")
        assert seen[0][":authority"] == f"aaaa.{SUFFIX}"


async def test_a_server_that_waits_for_more_than_a_client_hello_counts_as_clear_text(fresh_world: World) -> None:
    """It neither answers nor hangs up until it has read a whole head."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fresh_world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, "mvm-a.2")
    assert (await fresh_world.request()).text == "ok"
    server.close()


# --- HTTP/2 and gRPC


@contextlib.asynccontextmanager
async def http2_guest(world: World, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[dict[str, str]]]:
    """Serve HTTP/2 alone, with trailers as gRPC has them, behind port 8080 of mvm-a."""
    seen: list[dict[str, str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        writer.write(state.data_to_send())
        with contextlib.closing(writer), contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            while data := await reader.read(65536):
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        seen.append({n.decode(): v.decode() for n, v in event.headers})
                    elif isinstance(event, h2.events.DataReceived):
                        state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        assert event.stream_id is not None
                        state.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                        state.send_data(event.stream_id, b"over h2")
                        state.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                writer.write(state.data_to_send())

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, f"mvm-a.{port}")
    try:
        yield seen
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
async def test_grpc_is_spoken_to_the_guest_in_http2_without_being_forced(world: World, kind: str) -> None:
    async with http2_guest(world) as seen:
        answer = await world.request(headers=[("content-type", kind), ("te", "trailers")], method="POST", content=b"x")
        assert (answer.status_code, answer.text) == (200, "over h2")
        assert seen[0]["te"] == "trailers"


async def test_grpc_web_is_spoken_in_http1(world: World) -> None:
    kinds = [("content-type", "application/grpc-web+proto")]
    assert (await world.request(headers=kinds, method="POST", content=b"x")).text == "guest a"


async def test_a_client_by_http2_reaches_a_guest_that_speaks_http1(world: World) -> None:
    async with world.connect(http2=True) as client:
        answer: httpx.Response = await world.request(client=client, method="POST", content=b"y" * 3_000_000)
        assert (answer.http_version, answer.text) == ("HTTP/2", "guest a")
    assert len(world.guests["a"].seen[0].body) == 3_000_000
