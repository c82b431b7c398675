"""`emberbox dev` without a server: what it reads, and how its port passes requests on; tests/examples has the rest."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from emberbox.cli.dev import read_definition
from emberbox.cli.local_port import LocalPort, is_for_here, rewrite
from emberbox.cli.main import app
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.errors import HostError


def write(directory: Path, definition: str | None = None) -> Path:
    (directory / "Dockerfile").write_text("FROM x\n")
    if definition is not None:
        (directory / "microvm-image.json").write_text(definition)
    return directory


def test_a_directory_alone_is_enough(tmp_path: Path) -> None:
    (directory := tmp_path / "my app (1)").mkdir()
    found = read_definition(write(directory))
    assert found.name == "my-app-1"
    assert found.options == {"memory_mib": 512, "hooks": None, "environment": None}


def test_a_definition_says_the_rest(tmp_path: Path) -> None:
    text = '{"name": "n", "resources": [{"minimumMemoryInMiB": 1024}], "environmentVariables": {"A": "b"}}'
    found = read_definition(write(tmp_path, text))
    assert found.name == "n"
    assert found.options == {"memory_mib": 1024, "hooks": None, "environment": {"A": "b"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "it is no object"),
        ('{"tags": {}, "roles": 1}', "roles, tags: it may have name, resources, hooks, environmentVariables"),
        ('{"resources": [1]}', "resources: it is"),
        ('{"resources": {"a": 1}}', "resources: it is"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=said):
        read_definition(write(tmp_path, text))


def test_without_a_dockerfile_it_says_what_makes_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["dev", str(tmp_path)])
    assert done.exit_code == 1
    assert f"emberbox init {tmp_path}" in done.stderr.replace("\n", " ")


def test_heads_are_rewritten() -> None:
    head = b"GET /a?b HTTP/1.1\r\nHost: x:8080\r\nX-Aws-Proxy-Auth: old\r\nConnection: keep-alive\r\nA: b\r\n\r\n"
    assert rewrite(head, {"host": "there", "x-aws-proxy-auth": "token"}) == (
        b"GET /a?b HTTP/1.1\r\nA: b\r\nhost: there\r\nx-aws-proxy-auth: token\r\nconnection: close\r\n\r\n"
    )
    upgrade = b"GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert rewrite(upgrade, {}) == b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "app.localhost"])
def test_this_machines_names_are_answered(host: str) -> None:
    assert is_for_here(f"GET / HTTP/1.1\r\nHost: {host}\r\nA: b\r\n\r\n".encode())


@pytest.mark.parametrize(
    "hosts", [["evil.test"], ["localhost.evil.test"], ["127.0.0.1.evil.test"], [], ["localhost", "x"]]
)
def test_no_page_of_another_site_gets_in_by_a_name_of_its_own(hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    assert not is_for_here(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())


async def test_a_foreign_name_is_refused(tmp_path: Path) -> None:
    async with local_port(tmp_path) as (local, port):
        local.target = cast("Any", Target())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 421 ")
        writer.close()


# --- with a gateway that answers what it is sent


class Target:
    """A port of a microVM, as far as the local port asks it."""

    public_url = "https://vm.endpoint.test/"

    async def headers(self) -> dict[str, str]:
        return {"x-aws-proxy-auth": "the token"}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the head of the request; send back what comes after it."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + head)
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


@contextlib.asynccontextmanager
async def local_port(directory: Path) -> AsyncIterator[tuple[LocalPort, int]]:
    made = ensure_certificates(directory / "certificates", ["127.0.0.1"])
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(made.certificate_path, made.key_path)
    trusting = ssl.create_default_context(cafile=made.authority_path)
    gateway = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=served)
    local = LocalPort(gateway.sockets[0].getsockname()[:2], trusting)
    async with local.listening(0) as port:
        yield local, port
    gateway.close()


async def test_requests_are_passed_on_with_a_token_and_streams_both_ways(tmp_path: Path) -> None:
    async with local_port(tmp_path) as (local, port):
        local.target = cast("Any", Target())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst")
        async with asyncio.timeout(30):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            told = await reader.readuntil(b"\r\n\r\n")
            assert b"x-aws-proxy-auth: the token" in told
            assert b"host: vm.endpoint.test" in told
            assert await reader.readexactly(5) == b"FIRST"
            writer.write(b"later")
            assert await reader.readexactly(5) == b"LATER"
        writer.close()


async def test_before_anything_runs_the_answer_says_so(tmp_path: Path) -> None:
    async with local_port(tmp_path) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"nothing runs yet\n")


async def test_a_connection_that_is_open_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with local_port(tmp_path) as (local, port):
            local.target = cast("Any", Target())
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() is not None
        writer.close()


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with local_port(tmp_path) as (local, port):
        with pytest.raises(HostError, match=f"port {port} of 127.0.0.1 cannot be had"):
            async with local.listening(port):
                pass
