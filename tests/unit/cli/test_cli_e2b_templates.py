"""`emberbox e2b-templates`: a standard template is built over E2B's API."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from emberbox.cli import e2b_templates
from emberbox.cli.main import app

STATUS = {"logEntries": [], "reason": {"message": "no room"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What the API is asked; the tests say what it answers to the questions for the status."""
    monkeypatch.setattr(e2b_templates, "load", lambda: SimpleNamespace(home=tmp_path))
    monkeypatch.setattr(
        e2b_templates, "get_server", lambda _: SimpleNamespace(access_key_id="A", secret_access_key="s")
    )
    monkeypatch.setattr(e2b_templates, "find_url", lambda _: "http://127.0.0.1:1")
    monkeypatch.setattr(e2b_templates, "POLL_S", 0)
    return []


def answer(monkeypatch: pytest.MonkeyPatch, asked: list[tuple[Any, ...]], *statuses: dict[str, Any]) -> None:
    answers = iter([{"templateID": "t", "buildID": "b"}, None, *statuses])

    def call(_self: Any, *request: Any) -> Any:
        asked.append(request)
        return next(answers)

    monkeypatch.setattr(e2b_templates._Api, "call", call)


def test_a_standard_template_is_built_and_its_log_shown(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = {"status": "building", "logEntries": [{"message": "STEP 1"}]}
    answer(monkeypatch, asked, line, {**STATUS, "status": "ready"})
    result = CliRunner().invoke(app, ["e2b-templates", "build"])
    assert (result.exit_code, result.output) == (0, "STEP 1\nbuilt: Sandbox.create('code-interpreter-v1')\n")
    assert asked[1] == ("POST", "/v2/templates/t/builds/b", {"fromTemplate": "code-interpreter-v1", "steps": []})
    assert asked[-1][1].endswith("logsOffset=1")


def test_a_build_that_fails_says_why(asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, asked, {**STATUS, "status": "error"})
    result = CliRunner().invoke(app, ["e2b-templates", "build", "base"])
    assert result.exit_code
    assert "no room" in str(result.output) + str(result.exception)


def test_a_server_that_is_not_there_is_said(asked: list[tuple[Any, ...]]) -> None:
    result = CliRunner().invoke(app, ["e2b-templates", "build"])
    assert result.exit_code
    assert "does not answer" in str(result.output) + str(result.exception)
