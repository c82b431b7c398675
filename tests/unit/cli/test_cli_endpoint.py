"""Requests to a microVM: real TLS, with the authority that the gateway uses."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_world import start_http, write_home

from emberbox.cli.context import Server, read_server
from emberbox.cli.endpoint import TOKEN_HEADER, Endpoint, Reply
from emberbox.edges.gateway.tls.certificates import endpoint_names, ensure_certificates
from emberbox.host.ports import free_port
from emberbox.model.errors import HostError


class Gateway(ThreadingHTTPServer):
    daemon_threads = True
    refusals = 0
    """How many requests get a 502 first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        status = 200
        if self.server.refusals > 0:
            self.server.refusals -= 1
            status = 502
        body = json.dumps({"token": self.headers[TOKEN_HEADER], "path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[Gateway, Server]]:
    paths = ensure_certificates(tmp_path / "tls", [*endpoint_names("us-east-1", "localhost"), "127.0.0.1"])
    gateway = Gateway()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate_path, paths.key_path)
    gateway.socket = context.wrap_socket(gateway.socket, server_side=True)
    with start_http(gateway) as port:
        write_home(tmp_path, os.getpid(), 1, gateway=f"127.0.0.1:{port}", ca_bundle=str(paths.authority_path))
        server = read_server(tmp_path)
        assert server is not None
        yield gateway, server


def test_a_request_carries_the_token(gateway: tuple[Gateway, Server]) -> None:
    reply = Endpoint(gateway[1], "a.b.c").get("/x?y=1")
    assert reply.json() == {"token": "a.b.c", "path": "/x?y=1"}


def test_waiting_goes_on_while_the_gateway_says_502(gateway: tuple[Gateway, Server]) -> None:
    gateway[0].refusals = 3
    assert Endpoint(gateway[1], "t").get().status == 502
    assert Endpoint(gateway[1], "t").wait_answer(10).status == 200
    assert gateway[0].refusals == 0


def test_waiting_ends(gateway: tuple[Gateway, Server]) -> None:
    gateway[0].refusals = 1_000_000
    with pytest.raises(HostError, match=r"did not answer within 0\.1 s"):
        Endpoint(gateway[1], "t").wait_answer(0.1)


def test_a_gateway_that_another_authority_vouches_for_is_refused(
    gateway: tuple[Gateway, Server], tmp_path: Path
) -> None:
    other = ensure_certificates(tmp_path / "other", ["127.0.0.1"])
    write_home(tmp_path, os.getpid(), 1, gateway=gateway[1].gateway, ca_bundle=str(other.authority_path))
    server = read_server(tmp_path)
    assert server is not None
    with pytest.raises(HostError, match="certificate verify failed"):
        Endpoint(server, "t").get()


def test_a_gateway_that_is_not_there_is_one_line(gateway: tuple[Gateway, Server], tmp_path: Path) -> None:
    port = free_port()
    write_home(tmp_path, 1, 1, gateway=f"127.0.0.1:{port}", ca_bundle=str(gateway[1].ca_bundle))
    server = read_server(tmp_path)
    assert server is not None
    with pytest.raises(HostError, match=f"the gateway at 127.0.0.1:{port} failed"):
        Endpoint(server, "t").get()


def test_an_answer_that_is_an_error_is_said_with_its_text() -> None:
    with pytest.raises(HostError, match="answered 500: broken"):
        Reply(500, b"broken").json()
