"""`emberbox mcp`: whom it asks, and what it says where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_world import SECRET, LogsApi
from typer.testing import CliRunner

from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from emberbox.cli.main import app
from emberbox_sdk import Config


def test_it_asks_the_server_of_the_home(home: Path, logs_api: LogsApi) -> None:
    server = get_server(home)
    config = server.config()
    assert (config.region, config.account_id, config.secret_access_key) == ("eu-west-1", "123456789012", SECRET)
    assert config == Config.from_environment(variables(server))


def test_without_the_sdk_it_says_what_to_install(
    home: Path, logs_api: LogsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "emberbox_sdk.mcp.main", None)
    result = CliRunner().invoke(app, ["mcp"])
    assert result.exit_code == 1
    assert 'pip install "emberbox-sdk[mcp]"' in result.stderr
