"""`emberbox e2b-keys`: what it prints leads E2B's SDKs here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from emberbox.cli import e2b_keys
from emberbox.cli.main import app
from emberbox.edges.sandboxes.api_keys import E2B, read_api_key


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """A server that makes keys, and what it is asked for."""
    found: list[dict[str, str]] = []

    def create(**parameters: str) -> dict[str, dict[str, str]]:
        found.append(parameters)
        return {"accessKey": {"accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "secret"}}

    monkeypatch.setenv("EMBERBOX_HOME", str(tmp_path))
    monkeypatch.setattr(e2b_keys, "own_client", lambda: SimpleNamespace(create_access_key=create))
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "endpoints.json").write_text(json.dumps({"e2b_url": "http://127.0.0.1:9072"}))
    return found


def test_a_key_is_printed_with_where_it_is_good_for(asked: list[dict[str, str]]) -> None:
    result = CliRunner().invoke(app, ["e2b-keys", "create", "--user", "ann"])

    assert result.exit_code == 0, result.stderr
    lines = dict(line.removeprefix("export ").split("=", 1) for line in result.stdout.splitlines())
    assert lines["E2B_API_URL"] == lines["E2B_SANDBOX_URL"] == "http://127.0.0.1:9072"
    assert read_api_key(E2B, lines["E2B_API_KEY"]) == ("AKIAEXAMPLE", "secret")
    assert asked == [{"userName": "ann"}]


def test_the_domain_of_the_gateway_leads_there_over_tls(asked: list[dict[str, str]], tmp_path: Path) -> None:
    path = tmp_path / "runtime" / "endpoints.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"e2b_domain": "e2b.localhost:8443"}))

    result = CliRunner().invoke(app, ["e2b-keys", "create", "--tls"])

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:3] == [
        "export E2B_DOMAIN=e2b.localhost:8443",
        "unset E2B_API_URL",
        "unset E2B_SANDBOX_URL",
    ]
    assert len(asked) == 1


def test_without_such_a_domain_no_key_is_made(asked: list[dict[str, str]]) -> None:
    result = CliRunner().invoke(app, ["e2b-keys", "create", "--tls"])
    assert (result.exit_code, "EMBERBOX_E2B_DOMAIN" in result.stderr, asked) == (1, True, [])


def test_where_the_api_is_not_served_no_key_is_made(asked: list[dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "runtime" / "endpoints.json").write_text("{}")

    result = CliRunner().invoke(app, ["e2b-keys", "create"])

    assert result.exit_code == 1
    assert "EMBERBOX_E2B=on" in result.stderr
    assert asked == []
