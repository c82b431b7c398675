"""E2B's own SDK with `E2B_DOMAIN` alone: all that it asks goes through the gateway, over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Sandbox
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.microvms.endpoint import EndpointDirectory
from emberbox.control.sandboxes.gate import SandboxGate
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges import asgi
from emberbox.edges.forwarded import Forwarded
from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.server import Gateway, GatewaySettings, start_gateway
from emberbox.edges.gateway.watch import Watch
from emberbox.model.endpoints import EndpointLimits
from emberbox.model.iam.audit import AuditRecord
from support.connect_proxy import lead_to
from support.e2b_world import E2bPlane, serve_e2b
from support.wire import REGION

DOMAIN = "e2b.boxes.test"

Wait = Callable[..., Any]


@dataclass
class Front:
    """E2B's edge behind a gateway.

    Args:
        plane: what is behind it.
        gateway: it.
        domain: with the gateway's port.
        proxy: leads names of the domain there.
        names: that were asked for.
    """

    plane: E2bPlane
    gateway: Gateway
    domain: str
    proxy: str
    names: list[str]

    def create(self, **more: Any) -> Sandbox:
        return Sandbox.create(proxy=self.proxy, **more)

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.gateway.authority_path))

    async def get(self, host: str, **headers: str) -> httpx.Response:
        name = host.partition(":")[0]
        async with httpx.AsyncClient(verify=self.trust(), http2=True, trust_env=False) as client:
            url = f"https://127.0.0.1:{self.gateway.port}/"
            return await client.get(url, headers={"Host": host, **headers}, extensions={"sni_hostname": name})


@pytest.fixture
async def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    names: list[str] = []
    async with serve_e2b(tmp_path, tls_domain=DOMAIN) as plane:
        limits = EndpointLimits()
        directory = EndpointDirectory(runners=plane.runners, store=plane.microvms, limits_per_vcpu=limits)
        gate = SandboxGate(plane.control.sandboxes.door, SandboxTokens(tmp_path / "secrets/sandboxes.key"), DOMAIN)
        settings = GatewaySettings(tmp_path / "g", REGION, "boxes.test")
        settings.directory.mkdir()
        admissions = Admissions(settings.directory / "admissions")
        keys = TokenKeys(tmp_path / "keys.json")
        async with start_gateway(settings, Watch(directory, admissions), keys, gate) as gateway:
            assert gateway.e2b_path is not None
            domain = f"{DOMAIN}:{gateway.port}"
            monkeypatch.setenv("E2B_DOMAIN", domain)
            monkeypatch.setenv("E2B_API_KEY", plane.api_key)
            monkeypatch.setenv("SSL_CERT_FILE", str(gateway.authority_path))
            with asgi.listen_at(gateway.e2b_path) as listener:
                async with (
                    asgi.serve(Forwarded(plane.edge), listener, 75),
                    lead_to(gateway.port, names) as proxy,
                ):
                    yield Front(plane, gateway, domain, proxy, names)
        admissions.close()


async def test_the_domain_alone_leads_sdks_here(front: Front, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[AuditRecord] = []
    monkeypatch.setattr(front.plane.access, "record", records.append)
    sandbox = await wait(lambda: front.create(metadata={"a": "b"}))
    assert (await wait(sandbox.commands.run, "echo $((6 * 7))")).stdout == "42\n"
    await wait(sandbox.files.write, "big", b"x" * 3_000_000)
    assert len(await wait(sandbox.files.read, "big")) == 3_000_000
    await wait(sandbox.pause)
    again = await wait(lambda: Sandbox.connect(sandbox.sandbox_id, proxy=front.proxy))
    assert await wait(again.is_running)
    assert await wait(again.kill)
    assert set(front.names) == {f"api.{front.domain}", f"49983-{sandbox.sandbox_id}.{front.domain}"}
    assert {record.source_ip for record in records} == {"127.0.0.1"}


async def test_ports_have_names_below_the_domain_that_was_asked(front: Front, wait: Wait) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    sandbox = await wait(front.create)
    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        host = await wait(sandbox.get_host, port)
        assert host == f"{port}-{sandbox.sandbox_id}.{front.domain}"
        opened = connect(f"wss://{host}/", host="127.0.0.1", port=front.gateway.port, ssl=front.trust(), proxy=None)
        async with opened as socket:
            await socket.send("hello")
            assert await asyncio.wait_for(socket.recv(), 10) == "hello"
        assert (await front.get(host)).http_version == "HTTP/2"
    assert (await front.get(host)).status_code == 502
    clear = await wait(lambda: Sandbox.connect(sandbox.sandbox_id, api_url=front.plane.url))
    assert clear.get_host(port) == f"{port}-{sandbox.sandbox_id}.localhost"


async def test_what_is_in_the_way_is_told_as_e2b_tells_it(front: Front, wait: Wait) -> None:
    private = await wait(lambda: front.create(network={"allow_public_traffic": False}))
    refused = await front.get(private.get_host(8000))
    assert (refused.status_code, "private" in refused.text) == (403, True)
    token = private.traffic_access_token
    assert token
    allowed = await front.get(private.get_host(1), **{"E2B-Traffic-Access-Token": token})
    assert allowed.status_code != 403
    missing = await front.get(f"8000-none.{front.domain}")
    assert (missing.status_code, "not found" in missing.text) == (502, True)
    async with httpx.AsyncClient(verify=front.trust(), trust_env=False) as client:
        url = f"https://127.0.0.1:{front.gateway.port}/v2/sandboxes"
        host = f"api.{front.domain}"
        answer = await client.get(url, headers={"Host": host}, extensions={"sni_hostname": f"api.{DOMAIN}"})
    assert answer.status_code == 401


async def test_a_paused_sandbox_goes_on_for_a_request_where_it_shall(front: Front, wait: Wait) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
        await writer.drain()

    lifecycle = {"on_timeout": "pause", "auto_resume": True}
    sandbox, other = await wait(lambda: (front.create(lifecycle=lifecycle), front.create()))
    for one in (sandbox, other):
        await wait(one.pause)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await front.get(sandbox.get_host(port))).text == "up"
        assert (await front.get(other.get_host(port))).status_code == 502
