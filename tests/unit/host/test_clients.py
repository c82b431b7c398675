"""What clients on this machine make of an endpoint: its name, and the trust of Python and Node."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.host.clients import find_name_problem, find_node_problem, find_python_problem

NAME = "doctor.lambda-microvm.us-east-1.ember.test"


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """A TLS server with a certificate of a local authority: its port, and the authority."""
    paths = ensure_certificates(tmp_path / "tls", ["*.lambda-microvm.us-east-1.ember.test"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate_path, paths.key_path)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], paths.authority_path


async def test_a_name_resolves_or_not() -> None:
    assert await find_name_problem("localhost") == ""
    assert "nothing.invalid does not resolve here" in await find_name_problem("nothing.invalid")


async def test_python_trusts_what_the_environment_names(
    endpoint: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, authority = endpoint
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert "Python does not trust" in await find_python_problem("127.0.0.1", port, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert await find_python_problem("127.0.0.1", port, NAME) == ""
    assert "does not trust other.test" in await find_python_problem("127.0.0.1", port, "other.test")


async def test_node_trusts_what_the_environment_names(
    endpoint: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shutil.which("node"), "Node is a test dependency (Debian nodejs)"
    port, authority = endpoint
    monkeypatch.delenv("NODE_EXTRA_CA_CERTS", raising=False)
    assert "Node does not trust" in (await find_node_problem("127.0.0.1", port, NAME) or "")
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(authority))
    assert await find_node_problem("127.0.0.1", port, NAME) == ""


async def test_nobody_who_answers_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert "does not reach" in await find_python_problem("127.0.0.1", port, NAME)
        assert "ECONNREFUSED" in (await find_node_problem("127.0.0.1", port, NAME) or "")


async def test_without_node_nothing_is_said_of_it() -> None:
    assert await find_node_problem("127.0.0.1", 1, NAME, "no-node-here") is None
