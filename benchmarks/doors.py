"""How long it takes through each door: boto3 with HTTP, the Python SDK, E2B's SDK, the MCP server.

    .venv/bin/python benchmarks/doors.py [--rounds 10] [--mib 1 10 100]
    EMBERBOX_ENGINE=gvisor .venv/bin/python benchmarks/doors.py

Starts a server with a home of its own, builds the image that sandboxes have, and measures in one run, in milliseconds
(medians, and how many times boto3's in brackets): from nothing to the end of the first command, a warm `true`, what of
that is beyond the command itself inside the guest, and files each way. MCP has no files of that size: its tools are for
text that a model reads.
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
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import e2b
import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client

from emberbox.cli.context import get_server
from emberbox_sdk import Client, Image, Sandbox
from support.e2b import e2b_environment
from support.server import Server, make_home
from support.shell import ingress

Figures = dict[str, float]
MIB = 1 << 20
FILE_ROUNDS = 3
LOOP = 20
"""How many times a command is run in the guest by one of ours, to see what it takes there."""

CREATE, WARM, INSIDE, BEYOND = "create to first command", "warm command", "command in the guest", "beyond the command"
COMMANDS = {"boto3": "/bin/true", "SDK": "/bin/true", "E2B SDK": "/bin/bash -l -c true", "MCP": "/bin/sh -c true"}
"""What each door starts in the guest: E2B's SDK makes every line a login shell's."""


def timed(work: Callable[[], Any]) -> float:
    """Return how many milliseconds something takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def median(work: Callable[[], Any], rounds: int) -> float:
    return statistics.median(timed(work) for _ in range(rounds))


class Door(Protocol):
    """One sandbox, as somebody has it who comes this way."""

    def run(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def read(self) -> bytes: ...
    def end(self) -> None: ...


def measure(make: Callable[[], Door], rounds: int, sizes: list[int]) -> Figures:
    """Return a door's figures."""
    made: list[Door] = []

    def begin() -> None:
        made.append(make())
        made[-1].run()

    try:
        figures = {CREATE: median(begin, rounds), WARM: median(made[-1].run, 5 * rounds)}
        for size in sizes:
            data = os.urandom(size * MIB)
            figures[f"{size} MiB in"] = median(lambda: made[-1].write(data), FILE_ROUNDS)  # noqa: B023
            figures[f"{size} MiB out"] = median(made[-1].read, FILE_ROUNDS)
            assert made[-1].read() == data
        return figures
    finally:
        for one in made:
            one.end()


class Boto3:
    """What somebody writes who has read AWS's documentation: one microVM."""

    def __init__(self, api: Any, server: Server, image: Image) -> None:
        found = get_server(server.home)
        self.api = api
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

    def write(self, data: bytes) -> None:
        self.request("PUT", "/files?path=/root/file", data)

    def read(self) -> bytes:
        return self.request("GET", "/files?path=/root/file")

    def end(self) -> None:
        self.api.terminate_microvm(microvmIdentifier=self.id)


class Sdk:
    """The Python SDK."""

    def __init__(self, client: Client, image: Image) -> None:
        self.sandbox = Sandbox.create(image, client=client)

    def run(self) -> None:
        assert self.sandbox.run(["true"]).ok

    def write(self, data: bytes) -> None:
        self.sandbox.files.write("/root/file", data)

    def read(self) -> bytes:
        return self.sandbox.files.read_bytes("/root/file")

    def end(self) -> None:
        self.sandbox.terminate()


class E2b:
    """E2B's own SDK."""

    def __init__(self, image: Image) -> None:
        self.sandbox = e2b.Sandbox.create(image.name, timeout=600)

    def run(self) -> None:
        assert self.sandbox.commands.run("true").exit_code == 0

    def write(self, data: bytes) -> None:
        self.sandbox.files.write("/tmp/file", data)  # noqa: S108 - inside a guest

    def read(self) -> bytes:
        return bytes(self.sandbox.files.read("/tmp/file", format="bytes"))  # noqa: S108

    def end(self) -> None:
        self.sandbox.kill()


def measure_guest(client: Client, image: Image, rounds: int) -> dict[str, Figures]:
    """Return what each door's command takes inside the guest, and what only the SDK has: code."""
    with Sandbox.create(image, client=client) as sandbox:
        nothing = median(lambda: sandbox.run(":"), rounds)

        def inside(command: str) -> float:
            loop = f"i=0; while [ $i -lt {LOOP} ]; do {command}; i=$((i+1)); done"
            return (median(lambda: sandbox.run(loop), rounds) - nothing) / LOOP

        figures = {door: {INSIDE: inside(command)} for door, command in COMMANDS.items()}
        figures["SDK"]["first code"] = timed(lambda: sandbox.run_code("1"))
        figures["SDK"]["warm code"] = median(lambda: sandbox.run_code("1"), rounds)
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
    return {CREATE: statistics.median(created), WARM: statistics.median(warm)}


def show(doors: dict[str, Figures]) -> None:
    """Print a table: a line for each thing, a column for each door."""
    for figures in doors.values():
        figures[BEYOND] = figures[WARM] - figures[INSIDE]
    names = [CREATE, WARM, BEYOND, *(name for name in doors["SDK"] if name not in (CREATE, WARM, BEYOND))]
    print(f"{'milliseconds':<26}" + "".join(f"{door:>18}" for door in doors))
    for name in names:
        print(f"{name:<26}" + "".join(_cell(figures.get(name), doors["boto3"].get(name)) for figures in doors.values()))


def _cell(figure: float | None, base: float | None) -> str:
    if figure is None:
        return f"{'-':>18}"
    ratio = f" ({figure / base:.2f})" if base and base > 0 else " " * 7
    return f"{figure:.1f}{ratio}".rjust(18)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mib", type=int, nargs="*", default=[1, 10, 100])
    given = parser.parse_args()
    server = Server(make_home(), e2b="on")
    try:
        server.start()
        with Client(get_server(server.home).config()) as client, e2b_environment(server):
            image = Image.default(client=client, on_progress=lambda line: print(f"  {line}"))
            with Sandbox.create(image, client=client):  # from now on the warm pool has one
                time.sleep(3)
            api = get_server(server.home).client("lambda-microvms")
            doors = {
                "boto3": measure(lambda: Boto3(api, server, image), given.rounds, given.mib),
                "SDK": measure(lambda: Sdk(client, image), given.rounds, given.mib),
                "E2B SDK": measure(lambda: E2b(image), given.rounds, given.mib),
                "MCP": asyncio.run(measure_mcp(server, given.rounds)),
            }
            for door, figures in measure_guest(client, image, given.rounds).items():
                doors[door] |= figures
    finally:
        server.remove()
    show(doors)


if __name__ == "__main__":
    main()
