"""What the gateway costs: requests, WebSocket messages and bulk, straight to a server and through the endpoint.

    .venv/bin/python benchmarks/gateway.py [--seconds 5] [--mib 1024] [--guest-mib 128] [--skip-guest]

First in front of native servers, so that the gateway is what is measured: nginx for requests, plain_server.py for
WebSockets and bulk. Then with that server in a real guest, which is what users have.
Everything runs on this machine and shares its processors: the load, the gateway and the servers. Requests are sent by
wrk: it and nginx cost little beside what they measure (Debian's packages wrk and nginx-light).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from bench import MIB, Client, running_server

from emberbox.control.endpoints.tokens import PortGrant, TokenKeys
from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.server import Gateway, GatewaySettings, start_gateway
from emberbox.edges.gateway.watch import Watch
from emberbox.host.ports import keep_port
from emberbox.model.endpoints import EndpointLimits, Upstream

MICROVM = "microvm-of-the-benchmark"
PORTS = PortGrant.of([(1, 65535)])
CONNECTIONS = (1, 32)
FAST, BULK = 8080, 8081
PLAIN_SERVER = Path(__file__).resolve().parent / "plain_server.py"
WRK_REPORT = Path(__file__).resolve().parent / "report.lua"
FOUR_PROCESSORS_MIB = 2048
SETTLE_S = 5
DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3
COPY plain_server.py /
EXPOSE 8080
CMD ["python3", "/plain_server.py", "8080"]
"""


@dataclass
class OneMicrovm:
    """A directory with one microVM, whose ports are native servers on the loopback."""

    upstreams: dict[int, int] = field(default_factory=dict)

    microvm_id: str = MICROVM

    def find(self, microvm_id: str) -> OneMicrovm:  # noqa: ARG002 - the interface, here and below
        return self

    def find_by_label(self, label: str) -> None:
        """Endpoints have no names here."""

    def limits(self) -> EndpointLimits:
        return EndpointLimits()

    async def connect(self, port: int) -> Upstream:
        return Upstream("127.0.0.1", self.upstreams[port], f"{MICROVM}.1")

    async def wake(self) -> str:
        return f"{MICROVM}.1"

    async def open_command(self, command: Any) -> Any:
        raise NotImplementedError

    def doubt(self, port: int) -> None:
        """They are where they are."""

    def note_bytes(self, *, from_client: bool) -> None:
        """Nobody is suspended here."""


# --- the load


@dataclass(frozen=True)
class RequestLoad:
    """Requests of some connections for some seconds, each sent when the answer to the last is whole, by wrk(1)."""

    url: str
    headers: tuple[str, ...]
    connections: int
    seconds: float

    def run(self) -> dict[str, float]:
        """Send it."""
        command = ["wrk", "--threads", "1", "--connections", str(self.connections), "--duration", f"{self.seconds:g}s"]
        for header in self.headers:
            command += ["--header", header]
        done = subprocess.run(
            [*command, "--script", str(WRK_REPORT), self.url], capture_output=True, text=True, check=True
        )
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if figures.pop("failed"):
            sys.exit(f"some requests failed: {done.stdout}")
        return figures


@dataclass
class WebSocketLoad:
    """Messages on upgraded connections for some seconds, from a process of its own: `gateway.py load JSON`."""

    host: str
    port: int
    head: str
    connections: int
    seconds: float
    message: str
    authority: str = ""

    def run(self) -> dict[str, float]:
        """Send it from a child, so that the gateway's process is not held up by the load."""
        command = [sys.executable, __file__, "load", json.dumps(vars(self))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the load failed: {done.stdout}{done.stderr[-2000:]}")
        figures: dict[str, float] = json.loads(done.stdout)
        return figures


class LoadConnection(asyncio.Protocol):
    """One upgraded connection that sends the next message when the last has come back."""

    def __init__(self, load: WebSocketLoad, samples: list[float], ends_at: float) -> None:
        self.load, self.samples, self.ends_at = load, samples, ends_at
        self.done = asyncio.get_running_loop().create_future()
        self.received = b""
        self.upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send(self.load.head.encode())

    def send(self, data: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.upgraded:
            if len(self.received) >= len(self.load.message):
                self.received = self.received[len(self.load.message) :]
                self.take_sample()
            return
        head, end, _ = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        if head.split(b" ")[1] != b"101":
            self.done.set_exception(RuntimeError(self.received[:200]))
            return
        self.upgraded, self.received = True, b""
        self.send(self.load.message.encode())

    def take_sample(self) -> None:
        now = time.perf_counter()
        self.samples.append(now - self.sent_at)
        if now > self.ends_at:
            self.transport.close()
        else:
            self.send(self.load.message.encode())

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_result(None)


async def run_load(load: WebSocketLoad) -> None:
    tls = ssl.create_default_context(cafile=load.authority) if load.authority else None
    samples: list[float] = []
    started = time.perf_counter()
    made = []
    for _ in range(load.connections):
        connection = LoadConnection(load, samples, started + load.seconds)
        name = "localhost" if tls else None
        await asyncio.get_running_loop().create_connection(
            lambda connection=connection: connection, load.host, load.port, ssl=tls, server_hostname=name
        )
        made.append(connection.done)
    await asyncio.gather(*made)
    elapsed = time.perf_counter() - started
    samples.sort()
    at = {"median": len(samples) // 2, "p99": len(samples) * 99 // 100}
    figures = {name: samples[index] * 1000 for name, index in at.items()}
    print(json.dumps({"rate": len(samples) / elapsed, **figures}))


# --- native servers, in processes of their own


FAST_CONFIG = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log /dev/null;
events {{}}
http {{
    access_log off;
    keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }}
}}
"""


@contextlib.contextmanager
def native_servers(directory: Path) -> Iterator[dict[int, int]]:
    """Run both native servers; yield where the ports of the microVM lead to."""
    fast, bulk = (keep_port(directory / f"port-{name}", "127.0.0.1", held=False) for name in ("fast", "bulk"))
    config = directory / "nginx.conf"
    config.write_text(FAST_CONFIG.format(directory=directory, port=fast))
    commands = [["nginx", "-p", str(directory), "-c", str(config)], [sys.executable, str(PLAIN_SERVER), str(bulk)]]
    children = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    try:
        time.sleep(2)
        yield {FAST: fast, BULK: bulk}
    finally:
        for child in children:
            child.terminate()
            child.wait()


# --- measuring


def show(what: str, figures: dict[str, float]) -> None:
    print(f"{what:<58}{figures['rate']:>9.0f}/s{figures['median']:>9.3f} ms{figures['p99']:>9.3f} ms", flush=True)


def compare(what: str, direct: RequestLoad | WebSocketLoad, through: RequestLoad | WebSocketLoad) -> None:
    """Measure straight and through the endpoint, in turn, and show both and what was added."""
    first, second = direct.run(), through.run()
    show(f"{what}, straight", first)
    show(f"{what}, endpoint", second)
    print(f"{'':<58}{second['median'] - first['median']:>+20.3f} ms at the median")


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


class MemoryWatch:
    """The largest resident memory of a process while the block lasts, beyond what it had at the start, in MiB."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self.before_mib = self.largest_mib = self._read()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _read(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.largest_mib = max(self.largest_mib, self._read())

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@dataclass(frozen=True)
class Ways:
    """How to reach one server: straight, and through an endpoint."""

    straight: tuple[str, int]
    gateway_port: int
    authority: str
    token: str
    port: int
    envoy_pid: int

    @property
    def headers(self) -> tuple[str, ...]:
        """What the endpoint wants to be told."""
        return f"X-aws-proxy-auth: {self.token}", f"X-aws-proxy-port: {self.port}"

    def request_loads(self, count: int, seconds: float) -> tuple[RequestLoad, RequestLoad]:
        straight, endpoint = "http://{}:{}/".format(*self.straight), f"https://localhost:{self.gateway_port}/"
        return (
            RequestLoad(straight, self.headers, count, seconds),
            RequestLoad(endpoint, self.headers, count, seconds),
        )

    def websocket_loads(self, count: int, seconds: float) -> tuple[WebSocketLoad, WebSocketLoad]:
        head = "\r\n".join(["GET / HTTP/1.1", "Host: localhost", *self.headers, *UPGRADE]) + "\r\n\r\n"
        message = "m" * 125
        return (
            WebSocketLoad(*self.straight, head, count, seconds, message),
            WebSocketLoad("127.0.0.1", self.gateway_port, head, count, seconds, message, self.authority),
        )


def measure_requests(name: str, ways: Ways, seconds: float) -> None:
    for count in CONNECTIONS:
        compare(f"requests to {name}, {count} connections", *ways.request_loads(count, seconds))


def measure_websockets(name: str, ways: Ways, seconds: float) -> None:
    for count in CONNECTIONS:
        compare(f"WebSockets to {name}, {count} connections", *ways.websocket_loads(count, seconds))


def measure_bulk(name: str, ways: Ways, directory: Path, mib: int) -> None:
    """Move bytes with curl, up and down."""
    body = directory / "body"
    with body.open("wb") as file:
        file.truncate(mib * MIB)
    secure = [
        "--cacert",
        ways.authority,
        "-H",
        f"X-aws-proxy-auth: {ways.token}",
        "-H",
        f"X-aws-proxy-port: {ways.port}",
    ]
    urls = {
        "straight": [f"http://{ways.straight[0]}:{ways.straight[1]}"],
        "HTTP/1.1": [*secure, "--http1.1", f"https://localhost:{ways.gateway_port}"],
        "HTTP/2": [*secure, "--http2", f"https://localhost:{ways.gateway_port}"],
    }
    for direction, path, more in (("upload", "/0", ["-T", str(body)]), ("download", f"/{mib * MIB}", [])):
        rates: dict[str, float] = {}
        for way, (*options, url) in urls.items():
            command = [
                "curl",
                "-sS",
                "-f",
                "-o",
                "/dev/null",
                "-w",
                f"%{{speed_{direction}}}",
                *options,
                *more,
                url + path,
            ]
            with MemoryWatch(ways.envoy_pid) as memory:
                rates[way] = float(subprocess.check_output(command, text=True)) / MIB
            share = f"{rates[way] / rates['straight']:>10.0%}"
            grown = "" if way == "straight" else f"   Envoy {memory.before_mib:.0f} to {memory.largest_mib:.0f} MiB"
            print(f"{f'{direction} of {mib} MiB, {name}, {way}':<58}{rates[way]:>6.0f} MiB/s{share}{grown}", flush=True)


@contextlib.asynccontextmanager
async def start(directory: Path, upstreams: dict[int, int]) -> AsyncIterator[tuple[Gateway, str]]:
    keys = TokenKeys(directory / "keys.json")
    token = keys.mint(MICROVM, PORTS, datetime.now(UTC) + timedelta(minutes=55))
    settings = GatewaySettings(directory / "gateway", "us-east-1", "localhost", concurrency=os.cpu_count() or 1)
    settings.directory.mkdir()
    with contextlib.closing(Admissions(settings.directory / "admissions")) as admissions:
        async with start_gateway(settings, Watch(OneMicrovm(upstreams), admissions), keys) as gateway:
            yield gateway, token


async def measure_native(directory: Path, seconds: float, mib: int) -> None:
    with native_servers(directory) as upstreams:
        async with start(directory, upstreams) as (gateway, token):
            pid = json.loads((gateway.envoy_log_path.parent / "envoy.pid").read_text())["pid"]
            fast, plain = (
                Ways(("127.0.0.1", upstreams[port]), gateway.port, str(gateway.authority_path), token, port, pid)
                for port in (FAST, BULK)
            )
            await asyncio.to_thread(measure_requests, "a native server", fast, seconds)
            await asyncio.to_thread(measure_websockets, "a native server", plain, seconds)
            await asyncio.to_thread(measure_bulk, "native", plain, directory, mib)


# --- a real guest


def measure_guest(home: Path, seconds: float, mib: int) -> None:
    home.mkdir()
    with running_server(home) as endpoints:
        client = Client(home, endpoints)
        client.upload({"Dockerfile": DOCKERFILE.encode(), "plain_server.py": PLAIN_SERVER.read_bytes()})
        image = client.build(FOUR_PROCESSORS_MIB)
        microvm_id = client.api.run_microvm(imageIdentifier=image)["microvmId"]
        client.wait_all([microvm_id], "RUNNING")
        time.sleep(SETTLE_S)  # meanwhile another one is prepared for the next launch
        gateway_port = int(endpoints["gateway"].rpartition(":")[2])
        pid = json.loads((home / "runtime/gateway/envoy.pid").read_text())["pid"]
        ways = Ways((guest_address(), FAST), gateway_port, endpoints["ca_bundle"], client.token(microvm_id), FAST, pid)
        measure_requests("a guest", ways, seconds)
        measure_websockets("a guest", ways, seconds)
        measure_bulk("guest", ways, home, mib)


def guest_address() -> str:
    """Find the address at which the host, as root, reaches the one microVM that runs (docs/network.md)."""
    for row in json.loads(subprocess.check_output(["ip", "-json", "-4", "address", "show"])):
        if row["ifname"].startswith("eb") and row["addr_info"]:
            address = str(ipaddress.IPv4Address(row["addr_info"][0]["local"]) + 1)
            with contextlib.suppress(OSError), socket.create_connection((address, FAST), timeout=1):
                return address
    sys.exit("the guest cannot be reached straight: this needs root and tap networks; use --skip-guest")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--guest-mib", type=int, default=128, help="an emulated guest is slow: 1 GiB takes minutes")
    parser.add_argument("--skip-guest", action="store_true")
    options = parser.parse_args()
    print(f"{'':<58}{'rate':>11}{'median':>12}{'p99':>12}")
    with tempfile.TemporaryDirectory(prefix="ebg-") as scratch:
        await measure_native(Path(scratch), options.seconds, options.mib)
        if not options.skip_guest:
            await asyncio.to_thread(measure_guest, Path(scratch) / "h", options.seconds, options.guest_mib)


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        uvloop.run(run_load(WebSocketLoad(**json.loads(sys.argv[2]))))
    else:
        uvloop.run(main())
