"""How the container of a build's step is made to trust authorities."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emberbox.images import step_runtime
from emberbox.images.step_runtime import IN_STEP, VARIABLES, extend, find_bundle


@pytest.mark.parametrize(
    ("arguments", "bundle"),
    [
        (("run", "--bundle", "/b", "x"), "/b"),
        (("--root", "/r", "create", "--bundle=/b", "x"), "/b"),
        (("run", "-b", "/b", "x"), "/b"),
        (("run", "x"), "."),
    ],
)
def test_the_bundle_is_found(arguments: Sequence[str], bundle: str) -> None:
    assert find_bundle(arguments) == Path(bundle)


def changed(directory: Path, told: dict[str, Any]) -> dict[str, Any]:
    config = directory / "config.json"
    config.write_text(json.dumps(told))
    extend(config, "/a.pem")
    read: dict[str, Any] = json.loads(config.read_text())
    return read


def test_mount_and_variables_are_added_at_the_end(tmp_path: Path) -> None:
    """The mount comes after the one of /dev, and what the Dockerfile has set stays."""
    before: dict[str, Any] = {"process": {"env": ["A=1", "PIP_CERT=/own"]}, "mounts": [{"destination": "/dev"}]}
    after = changed(tmp_path, before)
    assert after["process"]["env"][:2] == ["A=1", "PIP_CERT=/own"]
    assert after["process"]["env"][2:] == [f"{name}={IN_STEP}" for name in VARIABLES if name != "PIP_CERT"]
    assert [mount["destination"] for mount in after["mounts"]] == ["/dev", IN_STEP]
    assert after["mounts"][1]["source"] == "/a.pem"
    assert "ro" in after["mounts"][1]["options"]


def test_a_container_that_has_neither_gets_both(tmp_path: Path) -> None:
    after = changed(tmp_path, {"process": {}})
    assert len(after["process"]["env"]) == len(VARIABLES)
    assert len(after["mounts"]) == 1


def test_it_becomes_the_runtime(tmp_path: Path) -> None:
    """Run as a file, as builders do, and without what is installed beside Python."""
    (tmp_path / "config.json").write_text('{"process": {}}')
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    runc.chmod(0o755)
    command = [sys.executable, "-I", "-S", step_runtime.__file__, "/a.pem", runc, "run", "--bundle", tmp_path, "x"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"run --bundle {tmp_path} x\n"
    assert IN_STEP in (tmp_path / "config.json").read_text()
