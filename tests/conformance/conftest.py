"""Rules: a test that states one must have had an answer from every operation that it names."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from support.server import Server
from support.waiting import wait_for

_SCRIPTS = Path(__file__).parent / "javascript"
_INSTALL_TIMEOUT_S = 600
_ANSWERED = re.compile(r" ([A-Z][A-Za-z]+) [2-5]\d\d in [\d.]+ ms")


@pytest.fixture(autouse=True)
def rule_is_shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold the operations of a test's `rule` marker against those that the server answered meanwhile."""
    marker = request.node.get_closest_marker("rule")
    if marker is None:
        yield
        return
    server: Server = request.getfixturevalue("server")
    start = server.log_path.stat().st_size
    yield
    wanted = set(marker.args)

    def answered() -> bool:
        with server.log_path.open("rb") as log:
            log.seek(start)
            return wanted <= set(_ANSWERED.findall(log.read().decode(errors="replace")))

    wait_for(f"the log names an answer of each of {', '.join(sorted(wanted))}", answered, 5)


@pytest.fixture(scope="module")
def environment(server: Server) -> dict[str, str]:
    """What `emberbox env` prints, over an environment without anything of AWS."""
    command = server.command("env", "--format", "json")
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=120, check=True)
    printed: dict[str, str] = json.loads(done.stdout)
    return {**server.environment, **printed, "AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def session(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """A session of boto3 that is told nothing but by the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return boto3.Session()


@pytest.fixture(scope="session")
def packages() -> Path:
    """A directory with the pinned packages of AWS's SDK."""
    return _install(_SCRIPTS / "package.json")


@pytest.fixture(scope="session")
def install() -> Callable[[Path], Path]:
    """Installs the packages that a manifest pins, once per machine into a cache; returns where they are."""
    return _install


def _install(manifest: Path) -> Path:
    assert shutil.which("npm"), "npm is a test dependency (Debian npm)"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "emberbox-tests" / f"npm-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "installed").exists():
            shutil.copy(manifest, directory)
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
            assert done.returncode == 0, done.stderr
            (directory / "installed").touch()
    return directory
