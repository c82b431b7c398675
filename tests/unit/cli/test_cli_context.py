"""Finding the server by its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import SECRET, LogsApi, write_home
from typer.testing import CliRunner

from emberbox.cli.context import NoServerError, clear_errors, find_server, get_server, read_server
from emberbox.cli.main import app
from emberbox.host.ports import free_port
from emberbox.model.errors import HostError


def test_a_home_without_files_has_no_server(home: Path) -> None:
    assert find_server(home) is None
    with pytest.raises(NoServerError, match="start one with `emberbox up`"):
        get_server(home)


def test_a_running_server_is_found_with_its_credentials(home: Path, logs_api: LogsApi) -> None:
    server = get_server(home)
    assert (server.pid, server.access_key_id, server.secret_access_key) == (
        os.getpid(),
        "AKIAEXAMPLE",
        SECRET,
    )
    assert server.ca_bundle == home / "ca bundle.pem"


def test_the_secret_is_not_shown_with_the_server(home: Path, logs_api: LogsApi) -> None:
    assert SECRET not in repr(get_server(home))


def test_a_file_that_a_dead_server_left_is_no_server(home: Path, logs_api: LogsApi) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_home(home, child.pid, logs_api.server_address[1])
    assert read_server(home) is not None
    assert find_server(home) is None


def test_a_process_that_took_over_the_number_is_no_server(home: Path) -> None:
    write_home(home, os.getpid(), free_port())
    assert find_server(home) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"pid": "x"})])
def test_files_that_make_no_sense_are_said_to_be_so(home: Path, content: str) -> None:
    write_home(home, 1, 1)
    (home / "runtime" / "endpoints.json").write_text(content)
    with pytest.raises(HostError, match=r"endpoints\.json cannot be understood"):
        find_server(home)


def test_credentials_without_the_profile_are_said_to_be_so(home: Path) -> None:
    write_home(home, 1, 1)
    (home / "credentials").write_text("[default]\n")
    with pytest.raises(HostError, match="cannot be understood"):
        find_server(home)


@pytest.mark.parametrize("command", [["status"], ["env"], ["down"], ["logs", "app"]])
def test_commands_without_a_server_end_with_one_clear_line(home: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"error: no Emberbox server is running here ({home}); start one with `emberbox up`"
    ]


def test_what_the_api_refuses_is_one_line(logs_api: LogsApi) -> None:
    logs_api.refusal = "not you"
    result = CliRunner().invoke(app, ["logs", "app"])
    assert result.exit_code == 1
    hint = "an administrator allows it with `emberbox policies`"
    assert result.stderr == f"error: not you (AccessDeniedException); {hint}\n"


def test_an_api_that_is_gone_is_one_line(home: Path, logs_api: LogsApi) -> None:
    write_home(home, os.getpid(), free_port())
    server = read_server(home)
    assert server is not None
    with (
        pytest.raises(HostError, match=r"Could not connect .* `emberbox status` says") as caught,
        clear_errors(),
    ):
        server.client("logs").describe_log_groups()
    assert "\n" not in str(caught.value)


def test_a_gateway_or_api_that_is_gone_is_one_line_from_the_sdk_too(home: Path, logs_api: LogsApi) -> None:
    write_home(home, os.getpid(), free_port())
    server = read_server(home)
    assert server is not None
    with (
        pytest.raises(HostError, match=r"does not answer .*; `emberbox status` says") as caught,
        clear_errors(),
        server.open() as client,
    ):
        client.host()
    assert "\n" not in str(caught.value)


def test_what_nobody_raised_on_purpose_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), clear_errors():
        raise ZeroDivisionError


def test_a_setting_that_is_not_allowed_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBERBOX_API_PORT", "many")
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert re.fullmatch(r"error: .* cannot be 'many': .*\n", result.stderr)


def test_a_copy_of_a_home_is_not_the_home_of_the_server_that_runs(
    home: Path, logs_api: LogsApi, tmp_path: Path
) -> None:
    assert find_server(home) is not None
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    assert find_server(copy) is None
