"""`emberbox exec`: what its options become, and how refusals read."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from emberbox.cli.data_plane import refusal
from emberbox.cli.execute import make_request
from emberbox.cli.main import app
from emberbox.edges.gateway.data_plane.openapi import check
from emberbox.model.errors import HostError


def request(*command: str, env: list[str] | None = None, tty: bool = False) -> dict[str, object]:
    made = make_request(list(command), tty=tty, user="www-data", workdir="/tmp", env=env or [])
    check(made, "ExecRequest")
    return made


def test_options_become_members_of_the_request() -> None:
    assert request("--", "ls", "-l", env=["A=b=c", "B="], tty=True) == {
        "command": ["ls", "-l"],
        "environmentVariables": {"A": "b=c", "B": ""},
        "workingDirectory": "/tmp",
        "user": "www-data",
        "terminal": True,
    }


def test_only_the_first_dashes_are_ours() -> None:
    assert request("--", "--", "x")["command"] == ["--", "x"]


def test_what_is_not_said_is_left_out() -> None:
    made = make_request(["true"], tty=False, user=None, workdir=None, env=[])
    check(made, "ExecRequest")
    assert "user" not in made
    assert "workingDirectory" not in made


@pytest.mark.parametrize("env", [["A"], ["=b"]])
def test_a_variable_needs_name_and_value(env: list[str]) -> None:
    with pytest.raises(HostError, match="NAME=VALUE"):
        request("true", env=env)


def test_a_command_is_needed() -> None:
    with pytest.raises(HostError, match="which command"):
        request("--")


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, json.dumps({"message": "/x: No such file"}).encode(), "/x: No such file"),
        (403, b"Token authentication failed", "Token authentication failed"),
        (502, b"", "the microVM does not run"),
        (500, b"", "the gateway answered 500"),
        (500, b"[1]", r"\[1\]"),
    ],
)
def test_a_refusal_is_one_line(status: int, body: bytes, text: str) -> None:
    with pytest.raises(HostError, match=text):
        raise refusal(status, body)


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
