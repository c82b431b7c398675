"""The state directory of a server that runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from emberbox.app.home import database_url, endpoints_file, locked_home
from emberbox.model.errors import HostError
from emberbox.settings import Settings


def test_a_home_has_one_server_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with locked_home(home):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        with pytest.raises(HostError, match=r"`emberbox down` stops it"), locked_home(home):
            pass
    with locked_home(home):
        assert (home / "microvms").is_dir()


def test_clients_find_a_server_for_as_long_as_it_runs(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    path = tmp_path / "runtime" / "endpoints.json"
    with endpoints_file(tmp_path, {"pid": 1, "region": "us-east-1"}):
        assert json.loads(path.read_text()) == {"pid": 1, "region": "us-east-1"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list((tmp_path / "runtime").iterdir())


def test_a_database_is_a_file_of_the_home_unless_there_is_another() -> None:
    settings = Settings(home=Path("/home/x"))
    assert database_url(settings, "logs.db") == "sqlite:////home/x/logs.db"
    elsewhere = Settings(home=Path("/home/x"), database_url="postgresql://db")
    assert database_url(elsewhere, "logs.db") == "postgresql://db"
