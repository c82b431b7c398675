"""The command as a whole, its table of settings, and the checks of `emberbox doctor`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from emberbox.cli.doctor import render
from emberbox.cli.main import app
from emberbox.cli.settings import hide_password
from emberbox.doctor import Check


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"emberbox": "1.2.3"}.__getitem__)
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, "emberbox 1.2.3\n")


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, "emberbox, run from its sources\n")


def test_every_command_has_help() -> None:
    commands = ["quickstart", "up", "down", "status", "env", "logs", "doctor", "settings"]
    overview = CliRunner().invoke(app, ["--help"]).stdout
    for command in commands:
        assert command in overview
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_settings_shows_values_in_force(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("EMBERBOX_REGION", "ap-south-1")
    monkeypatch.setenv("EMBERBOX_DATABASE_URL", "postgresql://me:topsecret@db/emberbox")
    result = CliRunner().invoke(app, ["settings"])
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if "EMBERBOX_REGION" in line)
    assert row.split()[1:3] == ["ap-south-1", "us-east-1"]
    assert "postgresql://me:***@db/emberbox" in result.stdout
    assert "topsecret" not in result.stdout


@pytest.mark.parametrize("value", ["sqlite:///x.db", "http://127.0.0.1:9000", "10.213.0.0/16"])
def test_what_holds_no_password_is_shown_as_it_is(value: str) -> None:
    assert hide_password(value) == value


def test_doctor_fails_where_tools_are_missing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "apt-get install --no-install-recommends buildah" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith("missing: ")
    assert {"QEMU", "buildah", "runc"} <= set(last.removeprefix("missing: ").split(", "))


def test_the_table_shows_remedies_of_what_is_not_ok_and_text_as_it_is() -> None:
    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(
        render(
            [
                Check("fine", ok=True, detail="all [bold]well", remedy="nothing to see"),
                Check("optional", ok=False, detail="absent", remedy="get it", required=False),
                Check("needed", ok=False, detail="absent", remedy="get it now"),
            ]
        )
    )
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines == [
        "ok fine all [bold]well",
        "note optional absent",
        "→ get it",
        "missing needed absent",
        "→ get it now",
    ]
