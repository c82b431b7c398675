"""Other people's clients: installed as they are published, and run where names of endpoints resolve.

Each has a virtual environment of its own, made once for each pin and kept in the cache. They run in a mount namespace
whose hosts file and nsswitch.conf are the tests': the machine's are not touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.server import Server

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
TABLE = CLIENTS / "clients.toml"
INSTALL_TIMEOUT_S = 900
NAMES_PACKAGE = "libnss-myhostname"
_NAMESPACE = 'mount --bind "$1" /etc/hosts; mount --bind "$2" /etc/nsswitch.conf; shift 2; exec "$@"'


@dataclass(frozen=True)
class Client:
    """A row of clients.toml: what is installed, under which name, and what it is."""

    name: str
    what: str
    version: str
    package: str = ""


def read_clients() -> dict[str, Client]:
    """Return all clients by their names."""
    return {row["name"]: Client(**row) for row in tomllib.loads(TABLE.read_text())["client"]}


@contextmanager
def kept(name: str, key: str) -> Iterator[Path]:
    """Give a directory of the cache, to be filled where there is no file `installed` in it; one process at a time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "emberbox-tests" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def install_python(client: Client, *beside: str) -> Path:
    """Install a client from PyPI, unmodified, and return the directory of its programs.

    Args:
        client: which one.
        beside: further packages, each with its version.
    """
    wanted = [f"{client.package}=={client.version}", *beside]
    with kept("client", f"{' '.join(wanted)} {sys.version_info[:2]}") as directory:
        venv = directory / "venv"
        if not (directory / "installed").exists():
            _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], directory)
            pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python")]
            _run([*pip, "install", "--quiet", *wanted], directory)
            (directory / "installed").touch()
    return venv / "bin"


def install_javascript(manifest: Path) -> Path:
    """Install what a package.json pins, and return the directory with `node_modules`."""
    assert shutil.which("npm"), "npm is a test dependency (Debian npm)"
    with kept("npm", manifest.read_text()) as directory:
        if not (directory / "installed").exists():
            shutil.copy(manifest, directory)
            _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], directory)
            (directory / "installed").touch()
    return directory


def fetch_name_module() -> Path:
    """Return a directory with the module by which getaddrinfo knows names below localhost; nothing is installed."""
    with kept("myhostname", NAMES_PACKAGE) as directory:
        if not (directory / "installed").exists():
            _run(["apt-get", "download", "-o", "APT::Sandbox::User=root", NAMES_PACKAGE], directory)
            (archive,) = directory.glob("*.deb")
            _run(["dpkg-deb", "--extract", str(archive), "."], directory)
            (directory / "installed").touch()
        (library,) = directory.rglob("libnss_myhostname.so.2")
    return library.parent


class Desk:
    """Where a user sits who has done `eval "$(emberbox env)"`, and whose machine resolves names below localhost.

    Args:
        server: whose environment it is.
        directory: the user's home.
        modules: see `fetch_name_module`.
    """

    def __init__(self, server: Server, directory: Path, modules: Path) -> None:
        self.server = server
        self.directory = directory
        self._hosts, self._nsswitch = directory / "hosts", directory / "nsswitch.conf"
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._nsswitch.write_text("passwd: files\ngroup: files\nhosts: files myhostname dns\n")
        plain = {"PATH": os.environ["PATH"], "HOME": str(directory), "LD_LIBRARY_PATH": str(modules), "AWS_PAGER": ""}
        self.environment: dict[str, str] = plain | json.loads(self.emberbox("env", "--format", "json"))

    def emberbox(self, *arguments: str) -> str:
        """Run a command of Emberbox's that must succeed; return what it prints."""
        command = self.server.command(*arguments)
        done = subprocess.run(command, env=self.server.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_hosts(self, lines: str) -> None:
        """Put lines into the hosts file."""
        self._hosts.write_text(f"{self._hosts.read_text()}{lines}")

    def run(
        self, *command: str | Path, timeout_s: float = 600, more: Mapping[str, str] | None = None, check: bool = True
    ) -> str:
        """Run a client that must succeed; return what it prints.

        Args:
            command: program and arguments.
            timeout_s: how long it may take.
            more: variables beside those that `emberbox env` prints.
            check: it must succeed; otherwise its errors are returned too.
        """
        inside = ["unshare", "--mount", "bash", "-ec", _NAMESPACE, "bash", str(self._hosts), str(self._nsswitch)]
        done = subprocess.run(
            [*inside, *map(str, command)],
            env={**self.environment, **(more or {})},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout if check else f"{done.stdout}{done.stderr}"

    def script(self, program: str | Path, name: str, *arguments: str, **more: Any) -> Any:
        """Run one of the tests' scripts with a client; return the JSON in the last line that it prints."""
        printed = self.run(program, CLIENTS / "scripts" / name, *arguments, **more)
        return json.loads(printed.splitlines()[-1])
