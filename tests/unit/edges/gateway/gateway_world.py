"""A real gateway, with a small directory of microVMs whose guests are real servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from emberbox.control.endpoints.tokens import Kind, PortGrant, TokenKeys
from emberbox.edges.aws.operations.microvms import read_ports
from emberbox.edges.gateway.directory import SandboxNames
from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.server import Gateway, GatewaySettings, start_gateway
from emberbox.edges.gateway.watch import Watch
from emberbox.guest.protocol import Command
from emberbox.guest.streams import GuestCommand
from emberbox.model.endpoints import EndpointLimits, Unreachable, Upstream

REGION = "us-east-1"
DOMAIN = "microvms.test"
TLS_HANDSHAKE = b"\x16"
SUFFIX = f"lambda-microvm.{REGION}.{DOMAIN}"


@dataclass
class FakeDirectory:
    """Endpoint labels to ids, and guests' ports to where they listen here."""

    labels: dict[str, str] = field(default_factory=dict)
    upstreams: dict[tuple[str, int], Upstream] = field(default_factory=dict)
    delay_s: float = 0.0
    connects: list[tuple[str, int]] = field(default_factory=list)
    limits: dict[str, EndpointLimits] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    doubted: list[tuple[str, int]] = field(default_factory=list)
    commands: dict[str, Callable[[Command], GuestCommand]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def find(self, microvm_id: str) -> FakeEndpoint | None:
        return None if microvm_id in self.ended else FakeEndpoint(microvm_id, self)

    def find_by_label(self, label: str) -> FakeEndpoint | None:
        return FakeEndpoint(self.labels[label], self) if label in self.labels else None

    def doubt(self, microvm_id: str, port: int) -> None:
        self.doubted.append((microvm_id, port))

    async def connect(self, microvm_id: str, port: int) -> Upstream:
        self.connects.append((microvm_id, port))
        await asyncio.sleep(self.delay_s)
        if (microvm_id, port) not in self.upstreams:
            raise Unreachable("it does not run")
        return self.upstreams[microvm_id, port]

    async def wake(self, microvm_id: str) -> str:
        self.connects.append((microvm_id, 0))
        if microvm_id not in self.labels.values():
            raise Unreachable("it does not run")
        return f"{microvm_id}.1"

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        return self.commands[microvm_id](command)


@dataclass(frozen=True)
class FakeEndpoint:
    """What the directory has of one microVM."""

    microvm_id: str
    directory: FakeDirectory

    def limits(self) -> EndpointLimits:
        return self.directory.limits.get(self.microvm_id, EndpointLimits())

    async def connect(self, port: int) -> Upstream:
        return await self.directory.connect(self.microvm_id, port)

    async def wake(self) -> str:
        return await self.directory.wake(self.microvm_id)

    async def open_command(self, command: Command) -> GuestCommand:
        return await self.directory.open_command(self.microvm_id, command)

    def doubt(self, port: int) -> None:
        self.directory.doubt(self.microvm_id, port)

    def note_bytes(self, *, from_client: bool) -> None:
        self.directory.moved.append(self.microvm_id)


@dataclass
class Seen:
    """A request as a guest saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Guest:
    """An HTTP/1.1 server. Paths: /status/N answers N; /close hangs up; /stream streams; others say `name`."""

    name: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while await self.serve_one(reader, writer, number):
                pass

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        first = await reader.readexactly(1)
        if first == TLS_HANDSHAKE:
            return False
        head = first + await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"the guest got {name} twice"
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.seen.append(Seen(method, target, headers, body, number))
        return await self.answer(target, headers, reader, writer)

    async def answer(
        self, target: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if headers.get("upgrade") == "websocket":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            while data := await reader.read(4096):
                writer.write(data.upper())
            return False
        if target == "/close":
            return False
        if target == "/stream":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            for i in range(5):
                writer.write(b"data: %d\n\n" % i)
                await asyncio.sleep(0.05)
            return False
        status = int(target.rpartition("/")[2]) if target.startswith("/status/") else 200
        body = self.name.encode()
        writer.write(
            b"HTTP/1.1 %d Whatever\r\ncontent-length: %d\r\nserver: guest/1\r\n"
            b"x-envoy-upstream-service-time: 1\r\nx-own: kept\r\n\r\n" % (status, len(body)) + body
        )
        return True


@contextlib.asynccontextmanager
async def start_guest(name: str) -> AsyncIterator[Guest]:
    guest = Guest(name)
    server = await asyncio.start_server(guest.serve, "127.0.0.1", 0)
    guest.port = server.sockets[0].getsockname()[1]
    try:
        yield guest
    finally:
        server.close()


@dataclass
class World:
    """Everything that a test of the gateway touches. microVM `mvm-a` is label `aaaa`, and so on."""

    gateway: Gateway
    directory: FakeDirectory
    keys: TokenKeys
    guests: dict[str, Guest]
    watch: Watch
    client: httpx.AsyncClient = field(init=False)

    def token(
        self,
        microvm_id: str = "mvm-a",
        allowed_ports: list[dict[str, Any]] | None = None,
        minutes: float = 5,
        kind: Kind = "application",
    ) -> str:
        ports = PortGrant.of(read_ports(allowed_ports or [{"port": 8080}]))
        return self.keys.mint(microvm_id, ports, datetime.now(UTC) + timedelta(minutes=minutes), kind)

    async def request(
        self,
        path: str = "/",
        *,
        host: str = f"aaaa.{SUFFIX}",
        token: str | None = "",
        headers: list[tuple[str, str]] | None = None,
        method: str = "GET",
        client: httpx.AsyncClient | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Ask the gateway. `token`: "" mints one for mvm-a and port 8080, None sends none."""
        sent = [("host", host), *(headers or [])]
        if token is not None:
            sent.append(("x-aws-proxy-auth", token or self.token()))
        return await (client or self.client).request(
            method,
            f"https://127.0.0.1:{self.gateway.port}{path}",
            headers=sent,
            content=content,
            extensions={"sni_hostname": host.partition(":")[0] if host.endswith(DOMAIN) else "localhost"},
        )

    def trust(self) -> ssl.SSLContext:
        """Trust the gateway's authority alone, strictly. A new context each: httpx sets ALPN in its own."""
        context = ssl.create_default_context(cafile=str(self.gateway.authority_path))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def connect(self, *, http2: bool = False) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.trust(), http2=http2, timeout=20, trust_env=False)

    async def raw(self, request: bytes, silence_s: float = 0.5) -> bytes:
        """Send bytes over TLS; return the first answer, or what came until the end or a silence."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.gateway.port, ssl=self.trust(), server_hostname="localhost"
        )
        writer.write(request)
        received = b""
        with contextlib.suppress(TimeoutError, OSError):
            while data := await asyncio.wait_for(reader.read(65536), silence_s):
                received += data
                head, end, body = received.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                if end and length and len(body) >= int(length[1]):
                    break
        writer.close()
        return received

    def envoy_pid(self) -> int:
        pid: int = json.loads((self.gateway.envoy_log_path.parent / "envoy.pid").read_text())["pid"]
        return pid

    def gateway_accepts(self) -> bool:
        """Say whether something listens at the gateway's port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.gateway.port)) == 0

    def reset(self) -> None:
        """Forget what earlier tests did."""
        self.watch.admissions.forget()
        self.directory.delay_s = 0.0
        self.directory.connects.clear()
        self.directory.upstreams.clear()
        self.directory.commands.clear()
        self.directory.limits.clear()
        self.directory.moved.clear()
        self.directory.ended.clear()
        for letter, guest in self.guests.items():
            guest.seen.clear()
            self.directory.labels[letter * 4] = f"mvm-{letter}"
            upstream = Upstream("127.0.0.1", guest.port, f"mvm-{letter}.1")
            self.directory.upstreams[f"mvm-{letter}", 8080] = upstream


@contextlib.asynccontextmanager
async def start_own(
    settings: GatewaySettings, directory: FakeDirectory, keys: TokenKeys, sandboxes: SandboxNames | None = None
) -> AsyncIterator[tuple[Gateway, Watch]]:
    """Start a gateway with admissions of its own."""
    settings.directory.mkdir(exist_ok=True)
    with contextlib.closing(Admissions(settings.directory / "admissions")) as admissions:
        watch = Watch(directory, admissions)
        async with start_gateway(settings, watch, keys, sandboxes) as gateway:
            yield gateway, watch


@contextlib.asynccontextmanager
async def start_world(root: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        directory = FakeDirectory()
        guests = {}
        for letter in "ab":
            guests[letter] = await stack.enter_async_context(start_guest(f"guest {letter}"))
        keys = TokenKeys(root / "keys.json")
        settings = GatewaySettings(root / "gateway", REGION, DOMAIN)
        gateway, watch = await stack.enter_async_context(start_own(settings, directory, keys))
        world = World(gateway, directory, keys, guests, watch)
        world.client = await stack.enter_async_context(world.connect())
        world.reset()
        yield world
