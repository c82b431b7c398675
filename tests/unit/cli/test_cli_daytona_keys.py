"""`emberbox daytona-keys`: what it prints leads Daytona's SDKs here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from emberbox.cli import daytona_keys
from emberbox.cli.main import app
from emberbox.edges.sandboxes.api_keys import DAYTONA, read_api_key


def test_a_key_is_printed_with_where_it_is_good_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = {"accessKey": {"accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "secret"}}
    monkeypatch.setenv("EMBERBOX_HOME", str(tmp_path))
    monkeypatch.setattr(daytona_keys, "own_client", lambda: SimpleNamespace(create_access_key=lambda **_: made))
    (tmp_path / "runtime").mkdir()
    endpoints = tmp_path / "runtime" / "endpoints.json"
    endpoints.write_text(json.dumps({"daytona_url": "http://127.0.0.1:9074/api"}))

    done = CliRunner().invoke(app, ["daytona-keys", "create"])

    lines = dict(line.removeprefix("export ").split("=", 1) for line in done.output.splitlines())
    assert lines["DAYTONA_API_URL"] == "http://127.0.0.1:9074/api"
    assert read_api_key(DAYTONA, lines["DAYTONA_API_KEY"]) == ("AKIAEXAMPLE", "secret")

    endpoints.write_text("{}")
    assert "EMBERBOX_DAYTONA=on" in CliRunner().invoke(app, ["daytona-keys", "create"]).stderr
