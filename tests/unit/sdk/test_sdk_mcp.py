"""The MCP server in this process, spoken to by the official client."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp import Client
from sdk_world import Server, exited, lines, members, microvm, output, refused, token

from emberbox_sdk.mcp.server import TokenGuard, create_server
from emberbox_sdk.mcp.tools import OUTPUT_MAX, shorten, show
from emberbox_sdk.results import CodeError, Execution, Result


@pytest.fixture
def server() -> Server:
    server = Server()
    server.on("GET", "/microvms/mvm-1", members(microvm()))
    server.on("POST", "/shell-auth-token", token())
    return server


async def call(server: Server, tool: str, **arguments: Any) -> Any:
    async with Client(create_server(server.async_client())) as client:
        return await client.call_tool(tool, arguments)


async def test_a_command_answers_with_its_parts(server: Server) -> None:
    server.on("POST", "/exec", lines(output("stdout", b"out"), output("stderr", b"err"), exited(2)))
    answer = await call(server, "run_command", sandbox_id="mvm-1", command="x")
    assert answer.structured_content == {"exit_code": 2, "stdout": "out", "stderr": "err"}


async def test_an_error_reaches_the_model_with_what_to_do(server: Server) -> None:
    server.on("GET", "/microvms/mvm-1", refused("ResourceNotFoundException", 404, "there is no mvm-1"))
    answer = await call(server, "run_command", sandbox_id="mvm-1", command="x")
    assert answer.is_error
    assert "there is no mvm-1" in answer.content[0].text
    assert "emberbox ps" in answer.content[0].text


async def test_arguments_are_held_against_the_schema(server: Server) -> None:
    answer = await call(server, "fork_sandbox", sandbox_id="mvm-1", count=1000)
    assert answer.is_error
    assert "100" in answer.content[0].text
    assert server.asked == []


async def test_a_sandbox_is_suspended_when_idle_unless_told_otherwise(server: Server) -> None:
    image = {"name": "hello", "imageArn": "arn:aws:lambda:r:1:microvm-image:hello"}
    server.on("GET", "/microvm-images", members({"items": [image]}))
    server.on("POST", "/microvms", members(microvm("PENDING")))
    answer = await call(server, "create_sandbox", image="hello")
    assert answer.structured_content == {"sandbox_id": "mvm-1", "state": "RUNNING", "image": "hello"}
    (asked,) = [request for request in server.asked if request.method == "POST"]
    assert b'"maxIdleDurationSeconds": 900' in asked.content


def test_code_is_shown_as_text_and_pictures() -> None:
    picture = Result({"image/png": base64.b64encode(b"PNG").decode(), "text/plain": "<Figure>"})
    failed = Execution((picture, Result({"text/plain": "3"}, True)), "out", "", CodeError("E", "v", "trace"))
    shown = show(failed)
    assert shown[0] == "stdout:\nout"
    assert getattr(shown[1], "data", None) == b"PNG"
    assert shown[2:] == ["3", "error:\ntrace"]
    assert show(Execution()) == ["It ran without any output."]


def test_long_output_loses_its_middle() -> None:
    text = "a" * OUTPUT_MAX + "b" * OUTPUT_MAX
    short = shorten(text)
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert f"[{OUTPUT_MAX} characters are left out]" in short
    assert shorten("short") == "short"


@pytest.mark.parametrize("given", [None, b"Bearer wrong", b"token"])
async def test_a_request_without_the_token_is_answered_here(given: bytes | None) -> None:
    passed: list[str] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    guard = TokenGuard(app, "token")
    headers = [] if given is None else [(b"authorization", given)]
    await guard({"type": "http", "headers": headers}, None, send)
    assert (passed, sent[0]["status"]) == ([], 401)
    await guard({"type": "http", "headers": [(b"authorization", b"Bearer token")]}, None, send)
    await guard({"type": "lifespan"}, None, send)
    assert passed == ["http", "lifespan"]
