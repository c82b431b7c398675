"""The second port: endpoints without a port in their names, and AWS's own host names by SNI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import DOMAIN, REGION, SUFFIX, FakeDirectory, start_own

from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.edges.asgi import listen_at, serve
from emberbox.edges.forwarded import Forwarded
from emberbox.edges.gateway.https import HttpsSettings, plan_https
from emberbox.edges.gateway.server import Gateway, GatewaySettings
from emberbox.host.ports import free_port, may_take

LAMBDA = f"lambda.{REGION}.amazonaws.com"
BUCKET = f"code.s3.{REGION}.amazonaws.com"


async def tell(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An API that answers with what it was asked."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    seen = {"host": headers["host"], "path": scope["raw_path"].decode(), "client": scope["client"][0], **headers}
    seen["scheme"] = scope["scheme"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"kept")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def answer_s3(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(head) + head)
    await writer.drain()
    writer.close()


@dataclass
class Https:
    """A gateway with a second port."""

    gateway: Gateway
    flag: Path
    directory: Path

    async def ask(self, name: str, path: str = "/", headers: dict[str, str] | None = None) -> httpx.Response:
        """Ask at the second port by a name, trusting the gateway's authority alone."""
        context = ssl.create_default_context(cafile=str(self.gateway.authority_path))
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
            url = f"https://127.0.0.1:{self.gateway.https_port}{path}"
            sent = {"host": f"{name}:{self.gateway.https_port}", **(headers or {})}
            return await client.get(url, headers=sent, extensions={"sni_hostname": name})

    async def answered(self, name: str) -> bool:
        """Say whether a name is the API's or S3's now: its certificate is trusted."""
        try:
            return (await self.ask(name)).status_code == 200
        except httpx.HTTPError:
            return False


async def wait_until(check: Any, wanted: bool = True) -> None:
    async with asyncio.timeout(60):
        while await check() != wanted:  # noqa: ASYNC110  # Envoy gives no event
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def start_https(root: Path, port: int | None = None, **more: Any) -> AsyncIterator[Https]:
    s3 = await asyncio.start_server(answer_s3, "127.0.0.1", 0)
    chosen = HttpsSettings(port or free_port(), s3.sockets[0].getsockname(), root / "flag")
    settings = GatewaySettings(root / "g", REGION, DOMAIN, https=chosen, **more)
    async with s3, start_own(settings, FakeDirectory(), TokenKeys(root / "keys.json")) as (gateway, _):
        api = gateway.api_path or root / "nowhere.sock"
        with listen_at(api) as listener:
            async with serve(Forwarded(tell), listener, 60):
                yield Https(gateway, root / "flag", root / "g")


async def test_endpoints_and_awss_names_are_served_there(tmp_path: Path) -> None:
    async with start_https(tmp_path) as https:
        assert https.gateway.endpoint_port == https.gateway.https_port != https.gateway.port
        assert (await https.ask(f"aaaa.{SUFFIX}")).status_code == 403
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await https.ask(LAMBDA)
        kept = ssl.create_default_context(cafile=str(https.gateway.authority_path))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", https.gateway.https_port, ssl=kept, server_hostname=f"aaaa.{SUFFIX}"
        )

        https.flag.touch()
        await wait_until(lambda: https.answered(LAMBDA))
        asked = {"x-emberbox-source": "10.9.8.7", "x-amz-date": "now", "x-forwarded-for": "10.9.8.7"}
        answer = await https.ask(LAMBDA, "/a//b%2Fc%20d?x=%20", asked)
        seen = answer.json()
        assert answer.headers["x-mine"] == "kept"
        assert (seen["host"], seen["path"]) == (f"{LAMBDA}:{https.gateway.https_port}", "/a//b%2Fc%20d")
        assert (seen["client"], seen["x-amz-date"], seen["scheme"]) == ("127.0.0.1", "now", "https")
        assert "x-emberbox-source" not in seen
        assert f"host: {BUCKET}" in (await https.ask(BUCKET, "/key")).text
        assert (await https.ask("sts.amazonaws.com")).status_code == 200
        assert (await https.ask(f"aaaa.{SUFFIX}")).status_code == 403, "endpoints are served as before"

        writer.write(f"GET / HTTP/1.1\r\nhost: aaaa.{SUFFIX}\r\n\r\n".encode())
        assert b" 403 " in await asyncio.wait_for(reader.readline(), 30), "what was open goes on"
        writer.close()

        https.flag.unlink()
        await wait_until(lambda: https.answered(LAMBDA), False)
        async with asyncio.timeout(30):
            while list((https.directory / "tls").glob("aws.*")):  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.1)


async def test_without_the_flag_the_api_is_not_reached_by_its_host(tmp_path: Path) -> None:
    async with start_https(tmp_path) as https:
        answer = await https.ask(f"aaaa.{SUFFIX}", headers={"host": LAMBDA})
        assert answer.status_code == 403


async def test_a_port_that_is_taken_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with caplog.at_level("INFO"):
            async with start_https(tmp_path, taken.getsockname()[1]) as https:
                assert (https.gateway.https_port, https.gateway.endpoint_port) == (0, https.gateway.port)
    assert "is taken, or not for us to take" in caplog.text


async def test_a_port_that_is_taken_meanwhile_leaves_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emberbox.edges.gateway.https.may_take", lambda *_: True)
    monkeypatch.setattr("emberbox.edges.gateway.https._PRESENTED_S", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with start_https(tmp_path, taken.getsockname()[1]) as https:
            assert https.gateway.https_port == 0
            assert json.loads((https.directory / "listeners.json").read_text()) == {"resources": []}
    assert "could not be had" in caplog.text


async def test_both_ports_come_back_with_a_killed_envoy(tmp_path: Path) -> None:
    (tmp_path / "flag").touch()
    async with start_https(tmp_path) as https:
        await wait_until(lambda: https.answered(LAMBDA))
        os.kill(json.loads((https.directory / "envoy.pid").read_text())["pid"], signal.SIGKILL)
        await wait_until(lambda: https.answered(LAMBDA))
        assert (await https.ask(f"aaaa.{SUFFIX}")).status_code == 403


def test_a_port_that_our_own_envoy_has_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        chosen = HttpsSettings(taken.getsockname()[1])
        where = {"socket_address": {"address": "127.0.0.1", "port_value": chosen.port}}
        (tmp_path / "listeners.json").write_text(json.dumps({"resources": [{"address": where}]}))
        assert plan_https(chosen, "127.0.0.1", tmp_path, is_running=False) is None
        assert plan_https(chosen, "127.0.0.1", tmp_path, is_running=True) is not None
        (tmp_path / "listeners.json").write_text("{")
        assert plan_https(chosen, "127.0.0.1", tmp_path, is_running=True) is None


def test_who_may_take_a_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = free_port()
    assert may_take("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not may_take("127.0.0.1", port)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert may_take("127.0.0.1", port), "it is above those that are privileged"
    status, start = tmp_path / "status", tmp_path / "start"
    start.write_text(f"{port + 1}\n")
    monkeypatch.setattr("emberbox.host.ports._PRIVILEGED", start)
    monkeypatch.setattr("emberbox.host.ports._STATUS", status)
    status.write_text("CapEff:\t0000000000000400\nCapAmb:\t0000000000000000\n")
    assert not may_take("127.0.0.1", port), "a capability of the file is not inherited"
    status.write_text("CapAmb:\t0000000000000400\n")
    assert may_take("127.0.0.1", port)
