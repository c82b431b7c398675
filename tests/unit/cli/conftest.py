"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import LogsApi, start_http, write_home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("AWS_", "EMBERBOX_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("EMBERBOX_HOME", str(home))
    return home


@pytest.fixture
def logs_api(home: Path) -> Iterator[LogsApi]:
    """A running server as far as the files and the Logs API tell."""
    api = LogsApi()
    with start_http(api) as port:
        write_home(home, os.getpid(), port)
        yield api
