"""Agent frameworks: installed as they are published, and run with the SDK of this checkout.

Tests of a framework run where it is, in a virtual environment of its own (`tests/frameworks/inside`); this starts them.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emberbox.time_limits import limit_s
from support.third_party import Client, install_python

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ROOT / "tests/frameworks"
INSIDE = FRAMEWORKS / "inside"
TIMEOUT_S = 1200


@dataclass(frozen=True)
class Framework:
    """A row of frameworks.toml; `name` is also the SDK's extra, and its module's with `_` for `-`."""

    name: str
    what: str
    package: str
    version: str
    beside: list[str]

    @property
    def module(self) -> str:
        """The name of the adapter's module."""
        return self.name.replace("-", "_")

    @property
    def cases(self) -> Path:
        """The file with its tests."""
        return INSIDE / f"cases_{self.module}.py"

    def install(self) -> Path:
        """Return the Python of its virtual environment, which is made the first time."""
        client = Client(self.name, self.what, self.version, self.package)
        return install_python(client, *self.beside) / "python"


def read_frameworks() -> dict[str, Framework]:
    """Return all frameworks by their names."""
    rows = tomllib.loads((FRAMEWORKS / "frameworks.toml").read_text())["framework"]
    return {row["name"]: Framework(**row) for row in rows}


def find_cases() -> list[tuple[str, str]]:
    """Return framework and function of each test that runs inside."""
    return [
        (framework.name, node.name)
        for framework in read_frameworks().values()
        for node in ast.parse(framework.cases.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def run_inside(framework: Framework, environment: Mapping[str, str], *arguments: str) -> None:
    """Run its Python, which must succeed.

    Args:
        framework: whose environment it is.
        environment: what `emberbox env` prints.
        arguments: of Python.
    """
    # Ray has Unix sockets there, whose names are limited to 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="ebf-", dir="/tmp"))
    plain = {"PATH": os.environ["PATH"], "HOME": str(home), "RAY_TMPDIR": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [framework.install(), *arguments],
            env={**plain, **environment, "PYTHONPATH": str(ROOT / "sdk/src"), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=limit_s(TIMEOUT_S),
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def run_case(framework: Framework, environment: Mapping[str, str], name: str) -> None:
    """Run one test inside, by the framework's own pytest and none of our settings."""
    place = f"{framework.cases}::{name}"
    plain = ["-c", os.devnull, f"--rootdir={INSIDE}", "--noconftest", "-p", "no:cacheprovider"]
    run_inside(framework, environment, "-m", "pytest", "--quiet", *plain, place)


def complaints(framework: Framework, cache: Path) -> list[str]:
    """Return what mypy finds in its adapter, when it sees the real framework.

    Args:
        framework: whose types it sees.
        cache: a directory for it.
    """
    module = f"emberbox_sdk.integrations.{framework.module}"
    command = [sys.executable, "-m", "mypy", f"--python-executable={framework.install()}", f"--cache-dir={cache}"]
    done = subprocess.run(
        [*command, "--package", module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit_s(TIMEOUT_S),
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "/integrations/" in line]
