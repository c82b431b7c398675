"""How quick the control plane is: GetMicrovm and ListMicrovms with few and many microVMs stored, and requests a second.

    .venv/bin/python benchmarks/api.py [--rows 100 10000] [--requests 400] [--seconds 5]

Starts a server with a home of its own, stores microVMs that have ended, and measures over the loopback as a client
does. Requests are signed ahead with botocore, so that the client's own work is not what is measured. Prints medians
and ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import statistics
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from emberbox.model.arns import image_arn, managed_connector_arn, new_microvm_id
from emberbox.model.clock import Instant
from emberbox.model.launch_requests import Ingress, LaunchRequest
from emberbox.model.records import Microvm
from emberbox.model.states import MicrovmState
from emberbox.store.database import Database
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import metadata
from support.server import Server, make_home

REGION, ACCOUNT = "us-east-1", "000000000000"
CONNECTIONS = 8
PATH = "/2025-09-09/microvms"

Request = tuple[str, dict[str, str]]
"""Path with query string, and headers."""


def store_microvms(server: Server, count: int) -> list[str]:
    """Store microVMs that have ended until there are `count`; return the ids of some."""
    database = Database(f"sqlite:///{server.home}/emberbox.db", metadata)
    store, now = MicrovmStore(database), datetime.now(UTC)
    there = len(store.list_page(ACCOUNT, 10 * count, None))
    egress = (managed_connector_arn(REGION, "INTERNET_EGRESS"),)
    request = LaunchRequest(region=REGION, ingress=(Ingress.HTTP,), egress=egress)
    for number in range(there, count):
        started = now - timedelta(seconds=number / 100)
        microvm = Microvm(
            id=new_microvm_id(), account_id=ACCOUNT, endpoint_label=str(uuid.uuid4()), image_id="image",
            image_arn=image_arn(REGION, ACCOUNT, "benchmark"), image_version="1.0", state=MicrovmState.TERMINATED,
            state_reason="Success.", request=request, incarnation=1, started_at=started, terminated_at=now,
            started=Instant.now(),
        )  # fmt: skip
        assert store.add([microvm], None)
    ids = [microvm.id for microvm in store.list_page(ACCOUNT, count, None)]
    database.close()
    return ids[:: max(1, count // 100)]


def sign(server: Server, path: str) -> Request:
    """Sign a GET as a client does; the signature holds for five minutes."""
    found = server.credentials()
    key = Credentials(found["aws_access_key_id"], found["aws_secret_access_key"])
    request = AWSRequest(method="GET", url=f"{server.endpoints['api_url']}{path}")
    SigV4Auth(key, "lambda", REGION).add_auth(request)
    return path, dict(request.headers.items())


def time_requests(server: Server, requests: list[Request]) -> float:
    """Return the median of milliseconds of requests that follow each other on one connection."""
    connection = http.client.HTTPConnection(urlsplit(server.endpoints["api_url"]).netloc, timeout=60)
    samples = []
    for path, headers in requests:
        started = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        samples.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200, body
    connection.close()
    return statistics.median(samples)


async def count_requests(server: Server, requests: list[Request], seconds: float) -> float:
    """Return the requests a second that some connections together get answered."""
    host = urlsplit(server.endpoints["api_url"])
    encoded = [encode(host.netloc, request) for request in requests]
    deadline = time.perf_counter() + seconds

    async def work(number: int) -> int:
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        done = 0
        while time.perf_counter() < deadline:
            writer.write(encoded[(done * CONNECTIONS + number) % len(encoded)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            done += 1
        writer.close()
        return done

    started = time.perf_counter()
    counts = await asyncio.gather(*(work(number) for number in range(CONNECTIONS)))
    return sum(counts) / (time.perf_counter() - started)


def encode(netloc: str, request: Request) -> bytes:
    path, headers = request
    lines = [f"GET {path} HTTP/1.1", f"host: {netloc}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def measure(server: Server, rows: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Store rows, start the server on them and measure."""
    ids = store_microvms(server, rows)
    server.start()
    gets = [sign(server, f"{PATH}/{microvm_id}") for microvm_id in ids]
    cycle = [gets[number % len(gets)] for number in range(arguments.requests)]
    lists = [sign(server, f"{PATH}?maxResults=50")] * arguments.requests
    time_requests(server, cycle[:20])
    figures = {"GetMicrovm, ms": time_requests(server, cycle), "ListMicrovms (50), ms": time_requests(server, lists)}
    before = cpu_seconds(server)
    rate = asyncio.run(count_requests(server, gets, arguments.seconds))
    used = cpu_seconds(server) - before
    server.stop()
    per_request = used * 1000 / (rate * arguments.seconds)
    return {**figures, "GetMicrovm, requests/s": rate, "GetMicrovm, CPU ms each": per_request}


def cpu_seconds(server: Server) -> float:
    """Return the processor time that the server has used: what it needs whatever else this machine does."""
    fields = Path(f"/proc/{server.endpoints['pid']}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[100, 10_000])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    server = Server(make_home(), network="user", **WITHOUT_LIMITS)
    try:
        server.start()
        server.stop()
        few, many = (measure(server, rows, arguments) for rows in arguments.rows)
    finally:
        server.remove()
    print(f"{'':26}{arguments.rows[0]:>10} rows{arguments.rows[1]:>10} rows     ratio")
    for name in few:
        print(f"{name:26}{few[name]:>15.2f}{many[name]:>15.2f}{many[name] / few[name]:>10.2f}")


WITHOUT_LIMITS: dict[str, Any] = {}

if __name__ == "__main__":
    main()
