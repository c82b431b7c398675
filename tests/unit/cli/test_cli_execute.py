"""`emberbox exec`: what its options become, and how refusals read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from emberbox.cli import execute, terminal
from emberbox.cli.context import describe_failure
from emberbox.cli.execute import read_command, read_variables
from emberbox.cli.main import app
from emberbox.edges.gateway.data_plane.openapi import check
from emberbox.model.errors import HostError
from emberbox_sdk.commands import Asked, disconnected, refusal
from emberbox_sdk.errors import EmberboxError, QuotaError
from emberbox_sdk.results import Output


def test_options_become_members_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []

    async def run(_server: object, _id: str, program: list[str], options: dict[str, object], **_: object) -> int:
        made = dict(options)
        asked.append(Asked(program, **made))  # type: ignore[arg-type]
        return 7

    monkeypatch.setattr(execute, "_run", run)
    monkeypatch.setattr(execute, "get_server", lambda _home: None)
    options = ["-t", "-u", "www-data", "-w", "/tmp", "-e", "A=b=c", "-e", "B="]
    assert CliRunner().invoke(app, ["exec", *options, "m", "--", "ls", "-l"]).exit_code == 7
    assert CliRunner().invoke(app, ["exec", "m", "true"]).exit_code == 7
    everything, least = (one.members() for one in asked)
    assert everything == {
        "command": ["ls", "-l"],
        "environmentVariables": {"A": "b=c", "B": ""},
        "workingDirectory": "/tmp",
        "user": "www-data",
        "terminal": True,
    }
    assert least == {"command": ["true"], "terminal": False}
    for one in (everything, least):
        check(one, "ExecRequest")


def test_only_the_first_dashes_are_ours() -> None:
    assert read_command(["--", "--", "x"]) == ["--", "x"]


@pytest.mark.parametrize("env", [["A"], ["=b"]])
def test_a_variable_needs_name_and_value(env: list[str]) -> None:
    with pytest.raises(HostError, match="NAME=VALUE"):
        read_variables(env)


def test_a_command_is_needed() -> None:
    with pytest.raises(HostError, match="which command"):
        read_command(["--"])


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, json.dumps({"message": "/x: No such file"}).encode(), "/x: No such file"),
        (403, b"Token authentication failed", "Token authentication failed"),
        (502, b"", "m-1 does not run; `emberbox ps` shows its state"),
        (502, b'{"message": "m-1 has ended"}', "m-1 has ended; `emberbox events` shows what happened"),
        (500, b"", "the gateway answered 500"),
        (500, b"[1]", "[1]"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_type(status: int, body: bytes, text: str) -> None:
    assert describe_failure(refusal(status, body, "m-1")) == text


def test_no_hint_names_what_cannot_be_typed() -> None:
    full = QuotaError("too many", "end some with terminate()", code="X")
    assert describe_failure(full) == "too many (X); end some, or raise the limit: emberbox quotas"
    assert describe_failure(EmberboxError("it failed", "call this()")) == "it failed"
    assert describe_failure(disconnected("it was suspended")).startswith("it was suspended; what ran goes on")


class Ended:
    """Plays a command of the SDK's that writes twice and ends."""

    exit_code: int | None = None

    async def __aiter__(self) -> AsyncIterator[Output]:
        yield Output("stdout", b"out\xff")
        yield Output("stderr", b"err")
        self.exit_code = 3


async def test_outputs_are_passed_on_as_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert await terminal.show(Ended()) == 3  # type: ignore[arg-type]
    assert capfdbinary.readouterr() == (b"out\xff", b"err")


async def test_a_signal_that_comes_too_late_is_no_error() -> None:
    async def send() -> None:
        raise disconnected("the command has ended")

    terminal.send_soon(send())
    await asyncio.gather(*terminal._sending)


@pytest.mark.parametrize("arguments", [["shell", "m"], ["exec", "m", "--", "true"], ["cp", "m:/a", "b"]])
@pytest.mark.usefixtures("home")
def test_without_a_server_the_commands_say_so(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "no Emberbox server is running here" in done.output


@pytest.mark.parametrize("arguments", [["a", "b"], ["m:/a", "n:/b"]])
@pytest.mark.usefixtures("home")
def test_a_copy_has_one_side_in_a_microvm(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["cp", *arguments])
    assert done.exit_code == 1
    assert "MICROVM:PATH" in done.output
