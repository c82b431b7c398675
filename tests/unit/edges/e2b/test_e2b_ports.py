"""Ports of sandboxes: what is passed on, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from e2b import Sandbox

from support.e2b_world import E2bPlane

Wait = Callable[..., Any]


@contextlib.asynccontextmanager
async def application(answer: bytes) -> AsyncIterator[tuple[int, bytearray]]:
    """Listen at a port of the guest's, which is this machine's; yield it, and what comes."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        length = [int(line.split(b":")[1]) for line in heard.splitlines() if line.lower().startswith(b"content-length")]
        heard.extend(await reader.readexactly(length[0] if length else 0))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


OK = b"HTTP/1.1 201 Made\r\nContent-Length: 5\r\nX-Own: a\r\nX-Own: b\r\n\r\nhello"


async def test_a_request_reaches_a_port_by_the_name_that_get_host_tells(
    sandbox: Sandbox, e2b: E2bPlane, wait: Wait
) -> None:
    async with application(OK) as (port, heard), httpx.AsyncClient(base_url=e2b.url) as client:
        host = await wait(sandbox.get_host, port)
        answer = await client.post("/a%2Fb?c=d&e", content=b"body", headers={"Host": host, "X-Access-Token": "secret"})

    assert (answer.status_code, answer.text, answer.headers.get_list("x-own")) == (201, "hello", ["a", "b"])
    assert heard.startswith(b"POST /a%2Fb?c=d&e HTTP/1.1\r\n")
    assert heard.endswith(b"\r\n\r\nbody")
    assert f"host: {host}\r\n".encode() in heard.lower()
    assert b"secret" not in heard


async def test_headers_name_sandbox_and_port_as_well(sandbox: Sandbox, e2b: E2bPlane) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with application(chunked) as (port, _), httpx.AsyncClient(base_url=e2b.url) as client:
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
        assert (await client.get("/", headers=headers)).text == "abc"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000])
async def test_what_is_no_answer_is_told_as_a_port_that_is_not_open(
    sandbox: Sandbox, e2b: E2bPlane, answer: bytes
) -> None:
    async with application(answer) as (port, _), httpx.AsyncClient(base_url=e2b.url) as client:
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
        got = await client.get("/", headers=headers)
    assert (got.status_code, got.json()["message"]) == (502, "The sandbox is running but port is not open")


async def test_an_answer_that_is_cut_short_is_no_whole_one(sandbox: Sandbox, e2b: E2bPlane) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
    async with application(cut) as (port, _), httpx.AsyncClient(base_url=e2b.url) as client:
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/", headers=headers)


async def test_a_private_sandbox_asks_for_its_token(e2b: E2bPlane, wait: Wait) -> None:
    sandbox = await wait(lambda: Sandbox.create(network={"allow_public_traffic": False}))
    async with application(OK) as (port, _), httpx.AsyncClient(base_url=e2b.url) as client:
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
        assert (await client.get("/", headers=headers)).status_code == 403
        headers["E2B-Traffic-Access-Token"] = sandbox.traffic_access_token or ""
        assert (await client.get("/", headers=headers)).text == "hello"


async def test_ports_of_no_sandbox_are_not_found(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    async with httpx.AsyncClient(base_url=e2b.url) as client:
        for name in ("8000-microvm-none.localhost", f"99999-{sandbox.sandbox_id}.localhost"):
            answer = await client.get("/", headers={"Host": name})
            assert answer.status_code in (404, 502)
        await wait(sandbox.pause)
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8000"}
        assert "was not found" in (await client.get("/", headers=headers)).json()["message"]
