"""`emberbox mcp`, spoken to by the official client, with real microVMs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from emberbox.cli.context import get_server
from emberbox.time_limits import limit_s
from emberbox_sdk import Client as Api
from emberbox_sdk import Image
from support.images import ImageMaker
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "mcp.md"
CONFIGURATION = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOKEN = "a-token"
PORT = 18765
LONG_S = limit_s(120)


@pytest.fixture(scope="module", autouse=True)
def default_image(server: Server, images: ImageMaker) -> None:  # which makes its bucket where there is none yet
    """Build the image that sandboxes have, once."""
    with Api(get_server(server.home).config()) as client:
        Image.default(client=client)


@asynccontextmanager
async def over_stdio(server: Server) -> AsyncIterator[Client]:
    (written,) = CONFIGURATION.findall(DOCUMENT.read_text())  # a client starts it as the document has it
    name, *told = json.loads(written)["mcpServers"]["emberbox"]["args"]
    assert name == "emberbox"
    program, *arguments = server.command(*told)
    started = stdio_client(StdioServerParameters(command=program, args=arguments, env=server.environment))
    async with Client(started, read_timeout_seconds=LONG_S) as client:
        yield client


@contextmanager
def http_server(server: Server) -> Iterator[None]:
    assert "\n    EMBERBOX_MCP_TOKEN=... emberbox mcp --http\n" in DOCUMENT.read_text()
    command = server.command("mcp", "--http", "--port", str(PORT))
    environment = {**server.environment, "EMBERBOX_MCP_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert f"127.0.0.1:{PORT}/mcp" in process.stderr.readline()
            wait_for("it listens", answers)
            yield
        finally:
            process.terminate()


def answers() -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{PORT}/mcp").status_code == 401
    except httpx2.TransportError:
        return False


@asynccontextmanager
async def over_http(server: Server) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with http_server(server):
        async with httpx2.AsyncClient(headers=headers, timeout=LONG_S) as http:
            transport = streamable_http_client(f"http://127.0.0.1:{PORT}/mcp", http_client=http)
            async with Client(transport, read_timeout_seconds=LONG_S) as client:
                yield client


class Caller:
    """Calls tools of one sandbox."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sandbox_id = ""

    async def call(self, tool: str, **arguments: Any) -> Any:
        answer = await self.client.call_tool(tool, {"sandbox_id": self.sandbox_id, **arguments})
        assert not answer.is_error, answer.content
        return answer.structured_content

    async def texts(self, tool: str, **arguments: Any) -> list[str]:
        answer = await self.client.call_tool(tool, {"sandbox_id": self.sandbox_id, **arguments})
        return [getattr(block, "text", block.type) for block in answer.content]


@pytest.mark.parametrize("connect", [over_stdio, over_http])
async def test_an_agent_has_all_that_it_needs(
    server: Server, connect: Callable[[Server], AbstractAsyncContextManager[Client]]
) -> None:
    async with connect(server) as client:
        made = await client.call_tool("create_sandbox", {"suspend_after_idle_seconds": 3600})
        assert not made.is_error, made.content
        caller = Caller(client)
        caller.sandbox_id = made.structured_content["sandbox_id"]
        assert made.structured_content["state"] == "RUNNING"
        try:
            await use(caller)
        finally:
            await caller.texts("terminate_sandbox")
        assert caller.sandbox_id not in str(await client.call_tool("list_sandboxes", {}))


async def use(caller: Caller) -> None:
    ran = await caller.call("run_command", command="cat; echo err >&2; exit 3", stdin="in")
    assert ran == {"exit_code": 3, "stdout": "in", "stderr": "err\n"}
    assert await caller.texts("run_code", code="x = 1\nprint('out')\nx") == ["stdout:\nout\n", "1"]
    assert "ZeroDivisionError" in (await caller.texts("run_code", code="1 / 0"))[0]
    await caller.call("write_file", path="/work/a.txt", content="text")
    assert await caller.texts("read_file", path="/work/a.txt") == ["text"]
    assert (await caller.call("list_files", path="/work"))["result"] == [
        {"path": "/work/a.txt", "kind": "file", "size": 4}
    ]
    assert "No such file" in (await caller.texts("read_file", path="/none"))[0]
    found = await caller.call("get_port_url", port=8080)
    assert found["url"].startswith("https://")
    assert found["headers"]["X-aws-proxy-port"] == "8080"
    checkpoint = (await caller.call("checkpoint_sandbox"))["checkpoint"]
    await caller.texts("run_code", code="x = 2")
    (fork,) = (await caller.call("fork_sandbox"))["result"]
    assert await caller.texts("run_code", sandbox_id=fork["sandbox_id"], code="x") == ["2"]
    await caller.call("terminate_sandbox", sandbox_id=fork["sandbox_id"])
    await caller.call("rollback_sandbox", checkpoint=checkpoint)
    assert await caller.texts("run_code", code="x") == ["1"]
    assert (await caller.call("suspend_sandbox"))["state"] == "SUSPENDED"
    assert (await caller.call("resume_sandbox"))["state"] == "RUNNING"
    assert await caller.texts("run_code", code="x") == ["1"]


async def test_every_tool_says_what_it_does(server: Server) -> None:
    async with over_stdio(server) as client:
        tools = (await client.list_tools()).tools
        assert len(tools) == 14
        for tool in tools:
            assert tool.description
            assert len(tool.description) > 40, tool.name
            for name, schema in tool.input_schema["properties"].items():
                assert schema.get("description"), (tool.name, name)


async def test_a_client_without_the_token_is_refused(server: Server) -> None:
    with http_server(server):
        answer = httpx2.post(f"http://127.0.0.1:{PORT}/mcp", headers={"Authorization": "Bearer wrong"}, json={})
        assert answer.status_code == 401


def test_without_a_server_it_says_what_to_do(tmp_path: Any) -> None:
    command = [sys.executable, "-m", "emberbox.cli.main", "mcp"]
    done = subprocess.run(command, env={"EMBERBOX_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 1
    assert "emberbox up" in done.stderr
