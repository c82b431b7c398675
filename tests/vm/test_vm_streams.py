"""Streams that are open over a suspend: each goes on, or is closed on both sides at once; none is silently dead.

In networks of their own (tap) they go on, the application's end in the guest's memory and the gateway's on the host.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emberbox.time_limits import limit_s
from support import shell
from support.engines import ENGINE
from support.guests import PORT_HEADER, TOKEN_HEADER, Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]

TLS_PORT, GRPC_PORT = 8443, 50051
WAKES = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
SLEEPS = {**WAKES, "autoResumeEnabled": False}
QUIET_S = 3.0
"""Longer than reports of the gateway take: nothing that was sent before a suspend may wake it after that."""

ANSWER_S = limit_s(60.0)
BODY_PIECES = 128


@pytest.fixture(scope="module", autouse=True)
def _networks_of_their_own(server: Server) -> None:
    if server.endpoints["network"] != "tap":
        pytest.skip("with user-mode networks streams end with the VMM")


def headers_for(microvm: Microvm, port: int = 8080) -> dict[str, str]:
    return {"Host": microvm.endpoint, TOKEN_HEADER: microvm.mint(), PORT_HEADER: str(port)}


def trust(microvm: Microvm) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=microvm.gateway.server.endpoints["ca_bundle"])


class Numbered:
    """A WebSocket whose other end counts what it gets: a new one would begin again at 1."""

    def __init__(self, socket: ClientConnection) -> None:
        self.count = 0
        self.socket = socket

    def send(self, word: str) -> None:
        self.count += 1
        self.socket.send(word)

    def receive(self, word: str) -> None:
        assert self.socket.recv(ANSWER_S) == f"{self.count} {word}"

    def ask(self, word: str) -> None:
        self.send(word)
        self.receive(word)

    def assert_closed(self) -> None:
        """The client is told, now and not when it tries to send."""
        with pytest.raises(ConnectionClosed):
            self.socket.recv(limit_s(20))


@pytest.fixture
def open_numbered() -> Iterator[Callable[..., Numbered]]:
    with contextlib.ExitStack() as opened:

        def open_one(microvm: Microvm, port: int = 8080) -> Numbered:
            host, _, gateway_port = microvm.gateway.server.endpoints["gateway"].rpartition(":")
            socket = connect(
                f"wss://{microvm.endpoint}/numbered",
                address=(host, int(gateway_port)),
                ssl=trust(microvm),
                additional_headers={TOKEN_HEADER: microvm.mint(), PORT_HEADER: str(port)},
                proxy=None,
                ping_interval=None,
                open_timeout=ANSWER_S,
                close_timeout=1,
            )
            return Numbered(opened.enter_context(socket))

        yield open_one


class Chat:
    """A bidirectional gRPC call."""

    def __init__(self, microvm: Microvm) -> None:
        with open(microvm.gateway.server.endpoints["ca_bundle"], "rb") as authority:  # noqa: PTH123
            credentials = grpc.ssl_channel_credentials(authority.read())
        name = microvm.endpoint.partition(":")[0]
        options = [("grpc.ssl_target_name_override", name), ("grpc.default_authority", microvm.endpoint)]
        self.channel = grpc.secure_channel(microvm.gateway.server.endpoints["gateway"], credentials, options)
        self._words: queue.Queue[bytes | None] = queue.Queue()
        metadata = [(key.lower(), value) for key, value in headers_for(microvm, GRPC_PORT).items() if key != "Host"]
        self._answers = self.channel.stream_stream("/test/chat")(iter(self._words.get, None), metadata=metadata)

    def ask(self, word: str) -> None:
        self._words.put(word.encode())
        assert next(self._answers) == word.upper().encode()


@pytest.fixture
def open_chat() -> Iterator[Callable[[Microvm], Chat]]:
    with contextlib.ExitStack() as opened:

        def open_one(microvm: Microvm) -> Chat:
            chat = Chat(microvm)
            opened.callback(chat.channel.close)
            return chat

        yield open_one


class Background:
    """A request in a thread; its lines, and then how it ended, are asked for later."""

    def __init__(self, microvm: Microvm, path: str) -> None:
        self._microvm, self._path = microvm, path
        self._lines: queue.Queue[str | Exception] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        base = f"https://{self._microvm.gateway.server.endpoints['gateway']}"
        try:
            with (
                httpx.Client(
                    base_url=base, verify=trust(self._microvm), trust_env=False, timeout=10 * ANSWER_S
                ) as client,
                client.stream("GET", self._path, headers=headers_for(self._microvm)) as answer,
            ):
                for line in answer.iter_lines():
                    self._lines.put(line)
                self._lines.put(f"end of {answer.status_code}")
        except httpx.HTTPError as error:
            self._lines.put(error)

    def line(self) -> str | Exception:
        """Return the next line, or that it was the last."""
        while (line := self._lines.get(timeout=ANSWER_S)) == "":
            pass
        return line

    def forget(self) -> None:
        """Drop what has come so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()

    def has_more(self) -> bool:
        return not self._lines.empty()


def look(microvm: Microvm) -> dict[str, Any]:
    """Return what the application holds open; asked by another client, which wakes the microVM if it may."""
    answer = microvm.request("GET", "/open")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = json.loads(answer.text)
    return told


def suspend_for_good(microvm: Microvm) -> None:
    """Suspend a microVM; again where its clients woke it: their libraries send frames of HTTP/2's own, perhaps late."""
    for _ in range(5):
        microvm.suspend()
        time.sleep(QUIET_S)
        if microvm.state() == "SUSPENDED":
            return
    raise AssertionError(f"{microvm.id} does not stay suspended, though nobody speaks to it")


@pytest.mark.skipif(ENGINE.holds_streams, reason="the tests below ask what becomes of streams that are held")
def test_a_stream_is_closed_on_both_sides_where_the_engine_cannot_hold_it(
    launch: Launch,
    protocols_image: Image,
    open_numbered: Callable[..., Numbered],
    open_chat: Callable[[Microvm], Chat],
) -> None:
    """Nobody waits for somebody who has gone, and new streams are served after the resume."""
    microvm = launch(protocols_image, idlePolicy=SLEEPS)
    for cycle in range(2):
        sockets, chat = [open_numbered(microvm, port) for port in (8080, TLS_PORT)], open_chat(microvm)
        for stream in (*sockets, chat):
            stream.ask(f"before {cycle}")
        microvm.suspend()
        for socket in sockets:
            socket.assert_closed()
        with pytest.raises(grpc.RpcError):
            chat.ask("nobody")
        microvm.resume()
        wait_for("it holds none", lambda: look(microvm)["streams"] == 0, 20)


def test_every_kind_of_stream_goes_on_when_another_client_wakes_it(
    launch: Launch,
    protocols_image: Image,
    open_numbered: Callable[..., Numbered],
    open_chat: Callable[[Microvm], Chat],
) -> None:
    """WebSockets in the clear and over TLS, events, a running request, gRPC: same connections, same handlers."""
    microvm = launch(protocols_image, idlePolicy=WAKES)
    sockets = [open_numbered(microvm, port) for port in (8080, TLS_PORT)]
    chat = open_chat(microvm)
    events, running = Background(microvm, "/events?5"), Background(microvm, "/wait?5")
    assert events.line() == "data: first"
    wait_for("all are open", lambda: look(microvm)["streams"] == 4, 20)
    for cycle in range(2):
        for socket in sockets:
            socket.ask(f"before {cycle}")
        chat.ask(f"before {cycle}")
        before = {tuple(ports) for ports in look(microvm)["connections"]}
        suspend_for_good(microvm)
        events.forget()
        time.sleep(1)
        assert not events.has_more()
        after = {tuple(ports) for ports in look(microvm)["connections"]}
        assert len(before & after) >= 5 - cycle, (before, after)
        assert microvm.state() == "RUNNING"
        assert events.line() == "data: next"
        for socket in sockets:
            socket.ask(f"after {cycle}")
        chat.ask(f"after {cycle}")
    assert running.line() == "waited"


@pytest.mark.parametrize("kind", ["clear", "tls", "grpc"])
def test_what_a_client_sends_on_an_open_stream_wakes_it(
    launch: Launch,
    protocols_image: Image,
    open_numbered: Callable[..., Numbered],
    open_chat: Callable[[Microvm], Chat],
    kind: str,
) -> None:
    """The message is not lost, and answered on the same stream; so are the next ones, and after a second suspend."""
    microvm = launch(protocols_image, idlePolicy=WAKES)
    streams: dict[str, Callable[[], Numbered | Chat]] = {
        "clear": lambda: open_numbered(microvm),
        "tls": lambda: open_numbered(microvm, TLS_PORT),
        "grpc": lambda: open_chat(microvm),
    }
    stream = streams[kind]()
    stream.ask("first")
    for word in ("second", "third"):
        suspend_for_good(microvm)
        stream.ask(word)
        microvm.wait_state("RUNNING")  # the answer may be there first: held streams go on as soon as the application
        stream.ask("more")


def test_bodies_under_way_in_both_directions_arrive_whole(launch: Launch, protocols_image: Image) -> None:
    """An upload and a download in full flow when it is suspended: the upload wakes it, and no byte is lost.

    The last quarter is sent once it is suspended: what a client has sent before wakes nobody (decision 0023).
    """
    microvm = launch(protocols_image, idlePolicy=WAKES)
    base = f"https://{microvm.gateway.server.endpoints['gateway']}"
    piece, digest = bytes(range(256)) * 1024, hashlib.sha256()
    under_way, suspended = threading.Event(), threading.Event()
    received: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(BODY_PIECES):
            digest.update(piece)
            yield piece
            if number == BODY_PIECES // 4:
                under_way.set()
            if number == BODY_PIECES * 3 // 4:
                assert suspended.wait(ANSWER_S)

    def download() -> None:
        with (
            httpx.Client(base_url=base, verify=trust(microvm), trust_env=False, timeout=ANSWER_S) as client,
            client.stream("GET", f"/produce?{BODY_PIECES // 4}", headers=headers_for(microvm)) as answer,
        ):
            received.extend(len(part) for part in answer.iter_raw())

    def suspend() -> None:
        assert under_way.wait(ANSWER_S)
        microvm.suspend()
        suspended.set()

    threads = [threading.Thread(target=work) for work in (download, suspend)]
    for thread in threads:
        thread.start()
    with httpx.Client(base_url=base, verify=trust(microvm), trust_env=False, timeout=ANSWER_S) as client:
        answer = client.post("/count", headers=headers_for(microvm), content=pieces())
    for thread in threads:
        thread.join(ANSWER_S)
    assert answer.text == f"{BODY_PIECES * len(piece)} {digest.hexdigest()}"
    assert sum(received) == BODY_PIECES // 4 << 20
    events = microvm.gateway.clients.emberbox.list_events(microvmIdentifier=microvm.id)["items"]
    assert [event["state"] for event in events].count("SUSPENDED") == 1


def test_without_auto_resume_messages_wait_for_the_resume(
    launch: Launch, protocols_image: Image, open_numbered: Callable[..., Numbered]
) -> None:
    """They wake nobody, and all of them are answered once somebody resumes it."""
    microvm = launch(protocols_image, idlePolicy=SLEEPS)
    socket = open_numbered(microvm)
    socket.ask("first")
    microvm.suspend()
    socket.send("x" * 50_000)
    time.sleep(QUIET_S)
    assert microvm.state() == "SUSPENDED"
    microvm.resume()
    socket.receive("x" * 50_000)
    socket.ask("more")


IDLE_SERVER = """\
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
ThreadingHTTPServer(("127.0.0.1", 9001), SimpleHTTPRequestHandler).serve_forever()
"""


def test_idle_connections_of_the_gateway_end_without_an_error(
    launch: Launch, protocols_image: Image, server: Server
) -> None:
    """A server that waits for the next request on a connection is not disturbed by suspends, and logs nothing."""
    connectors = shell.ingress(server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = launch(protocols_image, idlePolicy=WAKES, ingressNetworkConnectors=connectors)
    shell.run(microvm, f"printf '%s' '{IDLE_SERVER}' > /tmp/server.py; python3 /tmp/server.py >/tmp/log 2>&1 &")
    wait_for("it answers", lambda: microvm.request("GET", "/", port=9001).status_code == 200, 20)
    for _ in range(2):
        microvm.suspend()
        assert microvm.request("GET", "/", port=9001).status_code == 200
    log = shell.run(microvm, "cat /tmp/log")
    assert "GET / HTTP/1.1" in log
    assert "Traceback" not in log, log


def test_a_client_that_leaves_meanwhile_is_noticed_by_the_application(
    launch: Launch, protocols_image: Image, open_numbered: Callable[..., Numbered]
) -> None:
    """One goes while it is suspended, one stays: after the resume the application holds just that one."""
    microvm = launch(protocols_image, idlePolicy=SLEEPS)
    leaves, stays = open_numbered(microvm), open_numbered(microvm)
    leaves.ask("one")
    stays.ask("one")
    microvm.suspend()
    leaves.socket.close()
    time.sleep(QUIET_S)
    microvm.resume()
    wait_for("it has noticed", lambda: look(microvm)["streams"] == 1, 20)
    stays.ask("two")


def test_streams_of_a_microvm_that_ends_suspended_are_closed_at_once(
    launch: Launch, protocols_image: Image, open_numbered: Callable[..., Numbered], open_chat: Callable[[Microvm], Chat]
) -> None:
    """The client is told when it is terminated, and not by a time-out."""
    microvm = launch(protocols_image, idlePolicy=SLEEPS)
    sockets = [open_numbered(microvm, port) for port in (8080, TLS_PORT)]
    chat = open_chat(microvm)
    running = Background(microvm, "/wait?600")
    for stream in (*sockets, chat):
        stream.ask("one")
    wait_for("the request runs", lambda: look(microvm)["streams"] == 3, 20)
    microvm.suspend()
    microvm.terminate()
    for socket in sockets:
        socket.assert_closed()
    with pytest.raises(grpc.RpcError):
        chat.ask("two")
    assert running.line() == "end of 502"


def test_a_checkpoint_leaves_streams_alone_and_forks_and_rollbacks_begin_without(
    launch: Launch, protocols_image: Image, open_numbered: Callable[..., Numbered]
) -> None:
    """The source's stream goes on over a checkpoint; its fork holds none; a rollback closes it on both sides."""
    microvm = launch(protocols_image, idlePolicy=WAKES)
    socket = open_numbered(microvm)
    socket.ask("one")
    emberbox = microvm.gateway.clients.emberbox
    taken = emberbox.snapshot_microvm(microvmIdentifier=microvm.id, status="INACTIVE")["imageVersion"]
    socket.ask("two")
    (forked,) = emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
    fork = Microvm(forked["microvmId"], forked["endpoint"], microvm.gateway)
    try:
        fork.wait_state("RUNNING")
        socket.ask("three")
        wait_for("the fork has noticed", lambda: look(fork)["streams"] == 0, 20)
        assert look(microvm)["streams"] == 1
    finally:
        fork.terminate()
    microvm.suspend()
    emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=taken)
    socket.assert_closed()
    wait_for("the application has noticed", lambda: look(microvm)["streams"] == 0, 20)
    open_numbered(microvm).ask("one")
