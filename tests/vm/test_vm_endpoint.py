"""The endpoint in front of real servers in a real guest: every protocol, and when an idle microVM is suspended."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from emberbox.time_limits import limit_s
from support.guests import PORT_HEADER, TOKEN_HEADER, Gateway, Microvm
from support.images import Image
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]

TLS_PORT, GRPC_PORT = 8443, 50051
MIB = 1 << 20
BODY_MIB = 16
MARKER = "lambda-microvms"


@pytest.fixture(scope="module")
def guest(gateway: Gateway, protocols_image: Image) -> Iterator[Microvm]:
    """A microVM with a server for each protocol, shared by the tests that do not change its state."""
    microvm = Microvm.launch(gateway, protocols_image)
    microvm.wait_state("RUNNING")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


def headers_for(microvm: Microvm, port: int = 8080, **more: str) -> dict[str, str]:
    return {"Host": microvm.endpoint, TOKEN_HEADER: microvm.mint(), PORT_HEADER: str(port), **more}


def client_of(microvm: Microvm, *, http2: bool = False) -> httpx.Client:
    """Return a client of a microVM's gateway, over HTTP/2 where that is asked for."""
    server = microvm.gateway.server
    trust = ssl.create_default_context(cafile=server.endpoints["ca_bundle"])
    base = f"https://{server.endpoints['gateway']}"
    return httpx.Client(base_url=base, verify=trust, http2=http2, trust_env=False, timeout=limit_s(120))


def open_websocket(
    microvm: Microvm, *more: str, port: int = 8080, ping_interval: float | None = 20
) -> ClientConnection:
    """Open a WebSocket as a browser does, with subprotocols alone."""
    host, _, gateway_port = microvm.gateway.server.endpoints["gateway"].rpartition(":")
    own = [MARKER, f"{MARKER}.authentication.{microvm.mint()}", f"{MARKER}.port.{port}"]
    return connect(
        f"wss://{microvm.endpoint}/ws",
        address=(host, int(gateway_port)),
        ssl=ssl.create_default_context(cafile=microvm.gateway.server.endpoints["ca_bundle"]),
        subprotocols=[*own, *more],  # type: ignore[list-item]
        proxy=None,
        open_timeout=limit_s(60),
        ping_interval=ping_interval,
    )


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize(("port", "protocol"), [(8080, "1.1 http"), (TLS_PORT, "2 https")])
def test_clients_of_both_kinds_reach_servers_of_both_kinds(
    guest: Microvm, http2: bool, port: int, protocol: str
) -> None:
    """The guest's TLS is found by itself and HTTP/2 agreed on; nothing of the endpoint's own headers arrives."""
    with client_of(guest, http2=http2) as client:
        answer = client.get("/", headers=headers_for(guest, port))
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert answer.text.startswith(protocol), answer.text
    names = answer.text.split()
    assert "x-amzn-requestid" in names
    assert not [name for name in names if name.startswith(("x-aws", "x-envoy", "x-ember", "x-forwarded"))]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_large_body_streams_in_and_out_whole(guest: Microvm, http2: bool) -> None:
    """Megabytes in pieces of unknown total length up, then as many down."""
    piece = bytes(range(256)) * 4096
    with client_of(guest, http2=http2) as client:
        answer = client.post("/count", headers=headers_for(guest), content=(piece for _ in range(BODY_MIB)))
        digest = hashlib.sha256()
        for _ in range(BODY_MIB):
            digest.update(piece)
        assert answer.text == f"{BODY_MIB * MIB} {digest.hexdigest()}"
        with client.stream("GET", f"/produce?{BODY_MIB}", headers=headers_for(guest)) as down:
            assert sum(len(part) for part in down.iter_raw()) == BODY_MIB * MIB


def test_events_arrive_while_the_application_is_still_sending(guest: Microvm) -> None:
    """Each server-sent event comes by itself; the application learns that the client has left."""
    with client_of(guest) as client, client.stream("GET", "/events?20", headers=headers_for(guest)) as stream:
        lines = stream.iter_lines()
        assert [line for line, _ in zip(lines, range(9), strict=False) if line] == ["data: first"] + 4 * ["data: next"]


@pytest.mark.parametrize("port", [8080, TLS_PORT])
def test_a_websocket_echoes(guest: Microvm, port: int) -> None:
    """Texts and a megabyte of bytes, to a server in the clear and to one that speaks TLS."""
    with open_websocket(guest, port=port) as socket:
        assert socket.subprotocol == MARKER
        for message in ("grüße", b"\0\xff" * (MIB // 2)):
            socket.send(message)
            assert socket.recv(60) == message
    with open_websocket(guest, "chat", port=port) as socket:
        assert socket.subprotocol == "chat"


def grpc_channel(microvm: Microvm) -> grpc.Channel:
    endpoints = microvm.gateway.server.endpoints
    with open(endpoints["ca_bundle"], "rb") as authority:  # noqa: PTH123
        credentials = grpc.ssl_channel_credentials(authority.read())
    name = microvm.endpoint.partition(":")[0]
    options = [("grpc.ssl_target_name_override", name), ("grpc.default_authority", microvm.endpoint)]
    return grpc.secure_channel(endpoints["gateway"], credentials, options)


def test_grpc_calls_work_with_trailers_and_in_both_directions(guest: Microvm) -> None:
    """An ordinary gRPC client: unary, failing and bidirectional calls; each message is answered before the next."""
    metadata = [(name.lower(), value) for name, value in headers_for(guest, GRPC_PORT).items() if name != "Host"]
    with grpc_channel(guest) as channel:
        unary = channel.unary_unary("/test/unary")
        answer, call = unary.with_call(b"hello", metadata=metadata, timeout=limit_s(60))
        assert answer == b"HELLO"
        assert ("x-trailer", "from the guest") in [tuple(item) for item in call.trailing_metadata()]
        with pytest.raises(grpc.RpcError) as failed:
            unary(b"fail", metadata=metadata, timeout=limit_s(60))
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "as asked")

        answered = threading.Event()

        def ask() -> Iterator[bytes]:
            for word in (b"one", b"two", b"three"):
                yield word
                assert answered.wait(60)
                answered.clear()

        answers = []
        for answer in channel.stream_stream("/test/chat")(ask(), metadata=metadata, timeout=limit_s(60)):
            answers.append(answer)
            answered.set()
        assert answers == [b"ONE", b"TWO", b"THREE"]


def test_a_forced_http2_reaches_a_server_that_speaks_it_in_the_clear(guest: Microvm) -> None:
    """Without the header the gRPC server is spoken to in HTTP/1.1, which it does not know."""
    with client_of(guest, http2=True) as client:
        forced = headers_for(guest, GRPC_PORT, **{"X-aws-proxy-force-h2": "true"})
        assert client.post("/", headers=forced).status_code != 502
        assert client.post("/", headers=headers_for(guest, GRPC_PORT)).status_code == 502


@pytest.mark.both_engines
def test_many_requests_to_a_suspended_microvm_wake_it_once_and_all_are_served(
    launch: Launch, flask_image: Image, gateway: Gateway
) -> None:
    """Eight clients at once, also while it is being suspended; the application has counted each request once."""
    policy = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
    microvm = launch(flask_image, idlePolicy=policy)
    count = microvm.get()["count"]
    with ThreadPoolExecutor(9) as pool:
        for _ in range(3):
            suspending = pool.submit(microvm.suspend)
            answers = list(pool.map(lambda _: microvm.request(), range(8)))
            suspending.result()
            assert [answer.status_code for answer in answers] == [200] * 8
            count += 8
            microvm.suspend()
            answers = list(pool.map(lambda _: microvm.request(), range(8)))
            count += 8
            assert [answer.status_code for answer in answers] == [200] * 8
            assert max(answer.json()["count"] for answer in answers) == count
    assert microvm.state() == "RUNNING"


def test_ingress_connectors_decide_what_the_endpoint_serves(launch: Launch, flask_image: Image) -> None:
    """The application is served with HTTP_INGRESS and ALL_INGRESS alone; otherwise the answer is an empty 502."""
    prefix = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector"
    for names, status in ((["NO_INGRESS"], 502), (["SHELL_INGRESS"], 502), (["ALL_INGRESS"], 200)):
        microvm = launch(flask_image, ingressNetworkConnectors=[f"{prefix}:{name}" for name in names])
        answer = microvm.request()
        assert answer.status_code == status, names
        assert status == 200 or answer.text == ""


def test_only_bytes_on_the_endpoint_keep_a_microvm_from_being_suspended(launch: Launch, protocols_image: Image) -> None:
    """After a minute without traffic, or with a silent stream alone, it is suspended; with a word now and then not."""
    policy = {"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 600, "autoResumeEnabled": False}
    wakes = {**policy, "autoResumeEnabled": True}
    quiet, busy = (launch(protocols_image, idlePolicy=policy) for _ in range(2))
    silent = launch(protocols_image, idlePolicy=wakes)
    ends_at_once = launch(protocols_image, idlePolicy={**policy, "suspendedDurationSeconds": 0})
    with (
        client_of(silent) as client,
        client.stream("GET", "/events?0", headers=headers_for(silent)) as stream,
        open_websocket(busy) as socket,
        open_websocket(silent, port=TLS_PORT, ping_interval=None) as silent_socket,  # its server sends no pings
    ):
        silent_socket.send("before")
        assert silent_socket.recv(60) == "before"
        received = stream.iter_lines()
        assert next(received) == "data: first"

        def both_are_suspended() -> bool:
            quiet.mint()
            socket.send("a word")
            assert socket.recv(60) == "a word"
            time.sleep(0.5)
            return {quiet.state(), silent.state()} == {"SUSPENDED"}

        wait_for("the idle ones are suspended", both_are_suspended, 150)
        assert busy.state() == "RUNNING"
        assert ends_at_once.wait_ended() == "MicroVM exceeded maximum suspended duration"
        socket.send("still there")
        assert socket.recv(60) == "still there"
        if silent.gateway.server.holds_streams:
            silent_socket.send("this wakes it, where networks of their own hold the stream")
            assert str(silent_socket.recv(60)).startswith("this wakes it")
            assert silent.state() == "RUNNING"
