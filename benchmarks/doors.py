"""How long it takes through each door: boto3 with HTTP, the Python SDK, the MCP server.

    .venv/bin/python benchmarks/doors.py [--rounds 10] [--mib 1 10 100]

Starts a server with a home of its own, builds the image that sandboxes have, and measures in one run, in milliseconds
(medians): from nothing to the end of the first command, a warm `true` (with what the command takes by itself inside the
guest beside it), and files each way. MCP has no files of that size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client

from emberbox.cli.context import get_server
from emberbox_sdk import Client, Image, Sandbox
from support.server import Server, make_home
from support.shell import ingress

Figures = dict[str, float]
MIB = 1 << 20


def timed(work: Callable[[], Any]) -> float:
    """Return how many milliseconds something takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def median(work: Callable[[], Any], rounds: int) -> float:
    return statistics.median(timed(work) for _ in range(rounds))


class Boto3:
    """What somebody writes who has read AWS's documentation: one microVM."""

    def __init__(self, server: Server, image: Image) -> None:
        found = get_server(server.home)
        self.api = found.client("lambda-microvms")
        self.base = f"https://{found.gateway}"
        self.tls = ssl.create_default_context(cafile=found.ca_bundle)
        self.id = self.api.run_microvm(
            imageIdentifier=image.arn,
            ingressNetworkConnectors=ingress(found.region, "SHELL_INGRESS", "HTTP_INGRESS"),
        )["microvmId"]
        while self.api.get_microvm(microvmIdentifier=self.id)["state"] == "PENDING":
            time.sleep(0.02)
        token = self.api.create_microvm_shell_auth_token(microvmIdentifier=self.id, expirationInMinutes=30)
        self.headers = token["authToken"]

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        asked = urllib.request.Request(self.base + path, body, self.headers, method=method)  # noqa: S310
        with urllib.request.urlopen(asked, context=self.tls) as answer:  # noqa: S310
            return bytes(answer.read())

    def run(self) -> None:
        last = self.request("POST", "/exec", json.dumps({"command": ["true"]}).encode()).splitlines()[-1]
        assert json.loads(last)["exitCode"] == 0

    def end(self) -> None:
        self.api.terminate_microvm(microvmIdentifier=self.id)


def measure_boto3(server: Server, image: Image, rounds: int, sizes: list[int]) -> Figures:
    made: list[Boto3] = []

    def begin() -> None:
        made.append(Boto3(server, image))
        made[-1].run()

    figures = {"create to first command": median(begin, rounds), "warm command": median(made[-1].run, 5 * rounds)}
    for size in sizes:
        data = os.urandom(size * MIB)
        figures[f"{size} MiB in"] = timed(lambda: made[-1].request("PUT", "/files?path=/root/file", data))  # noqa: B023
        figures[f"{size} MiB out"] = timed(lambda: made[-1].request("GET", "/files?path=/root/file"))
    for one in made:
        one.end()
    return figures


def measure_sdk(client: Client, image: Image, rounds: int, sizes: list[int]) -> Figures:
    made: list[Sandbox] = []

    def begin() -> None:
        made.append(Sandbox.create(image, client=client))
        made[-1].run(["true"])

    figures = {"create to first command": median(begin, rounds)}
    sandbox = made[-1]
    figures["warm command"] = median(lambda: sandbox.run(["true"]), 5 * rounds)
    figures["first code"] = timed(lambda: sandbox.run_code("1"))
    figures["warm code"] = median(lambda: sandbox.run_code("1"), 5 * rounds)
    count = 20
    loop = f"i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done"
    figures["a `true` in the guest"] = (timed(lambda: sandbox.run(loop)) - figures["warm command"]) / count
    for size in sizes:
        data = os.urandom(size * MIB)
        figures[f"{size} MiB in"] = timed(lambda: sandbox.files.write("/root/file", data))  # noqa: B023
        figures[f"{size} MiB out"] = timed(lambda: sandbox.files.read_bytes("/root/file"))
    for one in made:
        one.terminate()
    return figures


async def measure_mcp(server: Server, rounds: int) -> Figures:
    program, *arguments = server.command("mcp")
    parameters = StdioServerParameters(command=program, args=arguments, env=server.environment)
    created, warm, ids = [], [], []
    async with mcp.Client(stdio_client(parameters)) as client:
        await client.call_tool("list_sandboxes", {})
        for _ in range(rounds):
            started = time.perf_counter()
            answer = await client.call_tool("create_sandbox", {})
            ids.append(answer.structured_content["sandbox_id"])
            await client.call_tool("run_command", {"sandbox_id": ids[-1], "command": "true"})
            created.append((time.perf_counter() - started) * 1000)
        for _ in range(5 * rounds):
            started = time.perf_counter()
            await client.call_tool("run_command", {"sandbox_id": ids[-1], "command": "true"})
            warm.append((time.perf_counter() - started) * 1000)
        for sandbox_id in ids:
            await client.call_tool("terminate_sandbox", {"sandbox_id": sandbox_id})
    return {"create to first command": statistics.median(created), "warm command": statistics.median(warm)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mib", type=int, nargs="*", default=[1, 10, 100])
    arguments = parser.parse_args()
    server = Server(make_home())
    try:
        server.start()
        with Client(get_server(server.home).config()) as client:
            image = Image.default(client=client, on_progress=lambda line: print(f"  {line}"))
            with Sandbox.create(image, client=client):  # from now on the warm pool has one
                time.sleep(3)
            doors = {
                "boto3": measure_boto3(server, image, arguments.rounds, arguments.mib),
                "SDK": measure_sdk(client, image, arguments.rounds, arguments.mib),
                "MCP": asyncio.run(measure_mcp(server, arguments.rounds)),
            }
    finally:
        server.remove()
    names = list(dict.fromkeys(name for figures in doors.values() for name in figures))
    print(f"{'milliseconds':<26}" + "".join(f"{door:>10}" for door in doors))
    for name in names:
        cells = (f"{figures[name]:>10.1f}" if name in figures else f"{'-':>10}" for figures in doors.values())
        print(f"{name:<26}" + "".join(cells))


if __name__ == "__main__":
    main()
