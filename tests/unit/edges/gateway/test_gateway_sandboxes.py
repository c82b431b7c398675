"""Names of E2B's form at the gateway: to a sandbox's port over whatever protocol, all others to E2B's API."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import pytest_asyncio
from gateway_world import DOMAIN, REGION, SUFFIX, FakeDirectory, Guest, World, start_guest, start_own
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.edges.gateway.server import GatewaySettings
from emberbox.model.endpoints import EndpointLimits, Unreachable, Upstream
from emberbox.model.sandbox_names import OWN_PORTS, Address, read_label

E2B_DOMAIN = "boxes.test"
TOKEN = "E2b-Traffic-Access-Token"


@dataclass
class FakeNames:
    """The sandbox `mvm-a`, with a private twin `mvm-private`."""

    domain: str = E2B_DOMAIN
    upstreams: dict[int, Upstream] = field(default_factory=dict)

    def find(self, label: str, token: str) -> Address | None:
        address = read_label(label)
        if address is None or address.port in OWN_PORTS:
            return None
        is_open = address.sandbox_id == "mvm-a" or (address.sandbox_id == "mvm-private" and token == "opens")
        return address if is_open else None

    async def connect(self, address: Address) -> Upstream:
        if address.port not in self.upstreams:
            raise Unreachable("it does not run")
        return self.upstreams[address.port]


@dataclass
class Sandboxes:
    """A gateway with such names, a guest, and what stands for E2B's API."""

    world: World
    names: FakeNames
    guest: Guest
    api: Guest

    async def ask(self, name: str, path: str = "/", *, http2: bool = False, **headers: str) -> httpx.Response:
        async with self.world.connect(http2=http2) as client:
            return await self.world.request(
                path, host=f"{name}.{E2B_DOMAIN}", token=None, headers=list(headers.items()), client=client
            )


@pytest_asyncio.fixture
async def sandboxes(tmp_path: Path) -> AsyncIterator[Sandboxes]:
    directory, names, keys = FakeDirectory(), FakeNames(), TokenKeys(tmp_path / "keys.json")
    settings, api = GatewaySettings(tmp_path / "g", REGION, DOMAIN), Guest("api")
    async with start_guest("guest") as guest, start_own(settings, directory, keys, names) as (gateway, watch):
        names.upstreams[8080] = Upstream("127.0.0.1", guest.port, "mvm-a.1")
        assert gateway.e2b_path is not None
        server = await asyncio.start_unix_server(api.serve, gateway.e2b_path)
        async with server:
            yield Sandboxes(World(gateway, directory, keys, {}, watch), names, guest, api)


async def test_a_name_leads_to_the_port_of_its_sandbox(sandboxes: Sandboxes) -> None:
    headers = {"X-Access-Token": "secret", "E2b-Sandbox-Id": "mvm-a", TOKEN: "opens", "X-Own": "kept"}
    for name in ("8080-mvm-a", "8080-MVM-A"):
        answer = await sandboxes.ask(name, "/a%2Fb?c=d", **headers)
        assert (answer.status_code, answer.text) == (200, "guest")
    seen = sandboxes.guest.seen[0]
    assert (seen.target, seen.headers["host"]) == ("/a%2Fb?c=d", f"8080-mvm-a.{E2B_DOMAIN}")
    assert seen.headers["x-own"] == "kept"
    assert not [name for name in seen.headers if name.startswith(("x-access", "e2b-", "x-ember"))]
    assert "mvm-a" in sandboxes.world.directory.moved


@pytest.mark.parametrize(
    "name",
    ["api", "sandbox", "49983-mvm-a", "49999-mvm-a", "8080-mvm-b", "8080-mvm-private", "99999-mvm-a", "8081-mvm-a"],
)
async def test_all_else_is_answered_by_e2bs_api_which_knows_who_asks(sandboxes: Sandboxes, name: str) -> None:
    answer = await sandboxes.ask(name, **{"X-Emberbox-Source": "203.0.113.1", "X-API-KEY": "key"})
    assert (answer.text, len(sandboxes.guest.seen)) == ("api", 0)
    seen = sandboxes.api.seen[0].headers
    assert (seen["x-emberbox-source"], seen["x-api-key"]) == ("127.0.0.1", "key")


async def test_a_private_sandbox_wants_its_token_each_time(sandboxes: Sandboxes) -> None:
    for token, answers in (("opens", "guest"), ("other", "api"), ("opens", "guest"), ("", "api")):
        assert (await sandboxes.ask("8080-mvm-private", **{TOKEN: token})).text == answers


async def test_who_is_let_in_is_asked_each_time(sandboxes: Sandboxes) -> None:
    async with sandboxes.world.connect() as client:
        for answers in ("guest", "guest", "api"):
            answer = await sandboxes.world.request(host=f"8080-mvm-a.{E2B_DOMAIN}", token=None, client=client)
            assert answer.text == answers
            if len(sandboxes.guest.seen) == 2:
                sandboxes.names.upstreams.clear()


async def test_names_of_endpoints_are_as_ever(sandboxes: Sandboxes) -> None:
    async with sandboxes.world.connect() as client:
        for host in (f"8080-mvm-a.{SUFFIX}", f"8080-mvm-a.deeper.{E2B_DOMAIN}", E2B_DOMAIN):
            answer = await sandboxes.world.request(host=host, token=None, client=client)
            assert (answer.status_code, answer.text) == (403, "Request missing authentication")


async def test_a_sandbox_takes_no_more_than_its_endpoint(sandboxes: Sandboxes) -> None:
    sandboxes.world.directory.limits["mvm-a"] = EndpointLimits(requests_per_s=1)
    answers = [(await sandboxes.ask("8080-mvm-a")).status_code for _ in range(3)]
    assert 429 in answers


async def test_http2_is_spoken_to_clients(sandboxes: Sandboxes) -> None:
    answer = await sandboxes.ask("8080-mvm-a", http2=True)
    assert (answer.http_version, answer.text) == ("HTTP/2", "guest")


async def test_grpc_reaches_the_guest_in_http2(sandboxes: Sandboxes) -> None:
    heard: list[bytes] = []

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaks = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        speaks.initiate_connection()
        while data := await reader.read(65536):
            heard.append(data)
            for event in speaks.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    speaks.send_headers(event.stream_id, [(":status", "200"), ("grpc-status", "0")], end_stream=True)
            writer.write(speaks.data_to_send())

    server = await asyncio.start_server(guest, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sandboxes.names.upstreams[9000] = Upstream("127.0.0.1", port, "mvm-a.2", spoke_tls=False)
        answer = await sandboxes.ask("9000-mvm-a", http2=True, **{"Content-Type": "application/grpc"})
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, "0")
    assert heard[0].startswith(b"PRI * HTTP/2.0")


async def test_websockets_pass_with_subprotocols_as_they_are(sandboxes: Sandboxes) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, subprotocols=["chat"]) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        sandboxes.names.upstreams[8765] = Upstream("127.0.0.1", port, "mvm-a.3")
        context: ssl.SSLContext = sandboxes.world.trust()
        gateway = sandboxes.world.gateway.port
        opened = connect(
            f"wss://8765-mvm-a.{E2B_DOMAIN}/", host="127.0.0.1", port=gateway, ssl=context, proxy=None,
            subprotocols=["lambda-microvms", "chat"],  # type: ignore[list-item]
        )  # fmt: skip
        async with opened as socket:
            await socket.send("grüße")
            assert (await asyncio.wait_for(socket.recv(), 10), socket.subprotocol) == ("grüße", "chat")


async def test_the_certificate_is_for_names_of_sandboxes_too(sandboxes: Sandboxes) -> None:
    for name in (f"8080-mvm-a.{E2B_DOMAIN}", f"aaaa.lambda-microvm.{REGION}.{DOMAIN}"):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", sandboxes.world.gateway.port, ssl=sandboxes.world.trust(), server_hostname=name
        )
        writer.close()
