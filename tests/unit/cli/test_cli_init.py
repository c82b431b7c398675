"""`emberbox init`: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator
from typer.testing import CliRunner

from emberbox.cli.dev import read_definition
from emberbox.cli.init import Starter
from emberbox.cli.main import app


@pytest.mark.parametrize("starter", list(Starter))
def test_what_it_writes_can_be_built(starter: Starter, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "a b"), "--template", starter])
    assert done.exit_code == 0, done.output
    directory = tmp_path / "a b"
    copied = [
        name
        for line in (directory / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
        for name in line.split()[1:-1]
        if not name.startswith("--")
    ]
    assert copied
    assert all((directory / name).is_file() for name in copied)
    assert (directory / ".dockerignore").is_file()
    assert f"dev {directory}" in (directory / "README.md").read_text()
    assert all(bool(path.stat().st_mode & 0o100) == path.read_text().startswith("#!") for path in directory.iterdir())
    assert read_definition(directory).name == "a-b"


@pytest.mark.parametrize("starter", list(Starter))
def test_its_definition_is_as_the_service_model_has_it(starter: Starter, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "x"), "-t", starter])
    members = json.loads((tmp_path / "x/microvm-image.json").read_text())
    model = botocore.session.get_session().get_service_model("lambda-microvms")
    shape = model.operation_model("CreateMicrovmImage").input_shape
    shape.required_members.clear()
    assert not ParamValidator().validate(members, shape).generate_report()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    done = CliRunner().invoke(app, ["init", str(tmp_path), "--template", "python"])
    assert done.exit_code == 1
    assert f"{tmp_path / 'app.py'}: there already; nothing was written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]
    assert (tmp_path / "app.py").read_text() == "mine"


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["init", str(tmp_path / "file/below"), "--template", "node"])
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_an_unknown_language_is_refused() -> None:
    done = CliRunner().invoke(app, ["init", "x", "--template", "cobol"])
    assert done.exit_code == 2
    assert "python" in done.stderr
