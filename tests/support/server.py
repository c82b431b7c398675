"""A real server as a child process, with a home of its own."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from emberbox.images.dockerfile import find_beginning
from emberbox.images.sandbox.caches import CacheKey
from emberbox.time_limits import limit_s
from support import engines, host
from support.waiting import wait_for

SOURCES = Path(__file__).resolve().parents[2] / "src/emberbox"
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 120.0
DOMAIN = "ember.test"
OPERATOR = "000000000000"
ANY_FREE_PORT = {f"EMBERBOX_{name}_PORT": "0" for name in ("API", "CONSOLE", "DAYTONA", "E2B", "GATEWAY", "S3")}
NO_AUTHORITIES = {"EMBERBOX_BUILD_CA": "none"}  # what this machine has is no matter of the tests'
NO_SECOND_PORT = {"EMBERBOX_HTTPS_PORT": "0"}  # there is one 443 for all servers of a machine
OF_THE_RUN = (
    "EMBERBOX_ACCELERATOR",
    "EMBERBOX_BUILDS",
    "EMBERBOX_ENGINE",
    "EMBERBOX_RUNSC",
    "EMBERBOX_TIME_SCALE",
)
"""Settings of a test's server that may be given to the whole run."""

NO_HURRY = {"EMBERBOX_RATE_LIMITS": "off"}  # many tests ask one server for more than five launches a second
SMALL_RESERVE = {"EMBERBOX_DISK_RESERVE_BYTES": str(256 << 20)}  # a large disk may have less free than 5 % of it


def make_home() -> Path:
    """Make a home with a short path: names of Unix sockets are limited to 107 bytes."""
    return Path(tempfile.mkdtemp(prefix="ebt-", dir="/tmp")) / "h"


class Server:
    """One server on one home; it can be started and stopped several times.

    Args:
        home: its state; made at the first start, from the cache of earlier runs as far as that goes.
        settings: further EMBERBOX_* variables, without the prefix.
    """

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.endpoints: dict[str, Any] = {}
        more = {f"EMBERBOX_{name.upper()}": value for name, value in settings.items()}
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in OF_THE_RUN or not name.startswith(("AWS_", "EMBERBOX_"))
        }
        self.environment = {
            **kept,
            **ANY_FREE_PORT,
            **NO_AUTHORITIES,
            **NO_SECOND_PORT,
            **NO_HURRY,
            **SMALL_RESERVE,
            "EMBERBOX_ENGINE": engines.NAME,
            **more,
            "EMBERBOX_HOME": str(home),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def log_path(self) -> Path:
        """Where it writes what it says; beside the home, so that a full disk there does not silence it."""
        return self.home.parent / f"{self.home.name}.log"

    @property
    def instance(self) -> int | None:
        """Its place among the servers of this machine, None without networks of its own."""
        with contextlib.suppress(OSError):
            return int((self.home / "runtime" / "network-instance").read_text().split()[0])
        return None

    @property
    def holds_streams(self) -> bool:
        """Whether what clients have open to a microVM can go on over its suspend; else it is closed."""
        return engines.ENGINE.holds_streams and self.endpoints["network"] == "tap"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of `emberbox`."""
        return [sys.executable, "-m", "emberbox.cli.main", *arguments]

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for it."""
        self._seed()
        command, directory = self.command("up"), self._working_directory()
        with self.log_path.open("ab") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=directory)

    def _seed(self) -> None:
        """Make the home, as far as it is not there."""
        seed(self.home, foreign=self.environment.get("EMBERBOX_ARM64") == "emulate")

    def _working_directory(self) -> Path | None:
        """Return where the process begins; None is where the tests run."""
        return None

    def start(self) -> None:
        """Start it and wait until it is ready; a failure is loud and shows the server's own words."""
        process = self.process = self.launch()

        def is_ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with code {process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(OSError, ValueError):
                self.endpoints = json.loads((self.home / "runtime" / "endpoints.json").read_text())
                return bool(self.endpoints["pid"] == process.pid)
            return False

        try:
            wait_for("the server is ready", is_ready, START_TIMEOUT_S)
        except AssertionError:
            process.kill()
            process.wait()
            raise

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Start it, and remove it with all that it has left at the end of the block."""
        try:
            self.start()
            yield self
        finally:
            self.remove()

    def stop(self) -> None:
        """Stop it with SIGTERM and check that nothing of it is left."""
        assert self.process is not None
        before = None if self.instance is None else host.network_inventory(self.instance)
        instance = self.instance
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(limit_s(STOP_TIMEOUT_S)) == 0, self.log_tail()
        self.process = None
        save(self.home)
        left = host.processes_of(self.home) + host.mounts_below(self.home)
        if before is not None and instance is not None:
            left += before.left(host.network_inventory(instance))
        assert not left, f"the server left behind: {left}"
        assert not (self.home / "runtime" / "endpoints.json").exists()

    def kill(self) -> None:
        """End it with SIGKILL: it can clean up nothing."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(limit_s(STOP_TIMEOUT_S))
        self.process = None

    def remove(self) -> None:
        """Stop it when it runs, and remove its home; with everything else, should stopping fail."""
        try:
            if self.process is not None:
                self.stop()
        finally:
            if self.process is not None:
                self.kill()
            self._end_leftovers()
            shutil.rmtree(self.home.parent, ignore_errors=True)

    def _end_leftovers(self) -> None:
        """End what goes on without a server: VMMs, Envoy, the S3 server, and their networks."""
        for row in host.processes_of(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(row.split()[0]), signal.SIGKILL)
        if self.instance is not None:
            host.remove_networks(self.instance)

    def log_tail(self) -> str:
        """Return the last of what it said."""
        with contextlib.suppress(OSError):
            return self.log_path.read_text(errors="replace")[-6000:]
        return "(it said nothing)"

    def credentials(self) -> dict[str, str]:
        """Return what a client needs to sign requests."""
        parser = configparser.ConfigParser()
        parser.read(self.home / "credentials")
        profile = parser["emberbox"]
        names = ("aws_access_key_id", "aws_secret_access_key")
        return {"region_name": self.endpoints["region"], **{name: profile[name] for name in names}}

    def microvm_directory(self, microvm_id: str) -> Path:
        """Return where the files of a microVM are."""
        return self.home / "microvms" / microvm_id

    def vmm_pid(self, microvm_id: str) -> int:
        """Return the process id of a running microVM's VMM."""
        return int(json.loads((self.microvm_directory(microvm_id) / "vmm.json").read_text())["pid"])

    def snapshot_directory(self) -> Path:
        """Return the directory of all images' snapshots."""
        return self.home / "images"


# --- what every home needs is fetched and made once per machine


MADE = (("kernel", "boot/vmlinuz-*"), ("base", "debian12.tar"))
MADE_FOREIGN = tuple((f"{name}-arm64", whole) for name, whole in MADE)
"""Directories of a home that are kept, and what each has when it is whole."""


def cache_key() -> str:
    """Return a name for this form of kernel and base image: it changes when the code that makes them does."""
    makers = ("host/kernel.py", "images/managed.py", "images/sandbox/root.py", "images/inside/packing.py")
    recipe = b"".join((SOURCES / name).read_bytes() for name in makers)
    return hashlib.sha256(recipe).hexdigest()[:16]


def cache() -> Path:
    """Return where what servers of tests need is kept, for this form of it."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "emberbox-tests" / cache_key()


def seed(home: Path, *, foreign: bool = False) -> None:
    """Put kernel and base image of an earlier run into a new home; `foreign` ones too where it emulates AArch64."""
    home.mkdir(parents=True, exist_ok=True)
    for name, _ in (*MADE, *(MADE_FOREIGN if foreign else ())):
        if (cache() / name).is_dir() and not (home / name).exists():
            _copy_tree(cache() / name, home / name)
    for name in _fetched(cache()):  # of servers that build in sandboxes, or have gVisor; a small disk stays small
        kept = cache() / name
        if not (home / name).exists() and kept.stat().st_dev == home.stat().st_dev:
            (home / name).parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-al", kept, home / name], check=True)
    if (cache() / "containers").is_dir() and not (home / "containers").exists():  # tests/kvm_lane has it
        _copy_store(cache() / "containers", home / "containers")


def save(home: Path) -> None:
    """Keep base image and kernel for later runs; a server with gVisor alone makes no kernel."""
    if not (home / "base/debian12.tar").exists():
        return
    cache().mkdir(parents=True, exist_ok=True)
    for name, whole in (*MADE, *MADE_FOREIGN):
        if list((home / name).glob(whole)) and not (cache() / name).exists():
            scratch = Path(tempfile.mkdtemp(dir=cache())) / name
            _copy_tree(home / name, scratch)
            with contextlib.suppress(OSError):  # another run was first
                scratch.rename(cache() / name)
            shutil.rmtree(scratch.parent, ignore_errors=True)

    for name in _fetched(home):
        if not (cache() / name).exists() and home.stat().st_dev == cache().stat().st_dev:
            scratch = Path(tempfile.mkdtemp(dir=cache()))
            subprocess.run(["cp", "-al", home / name, scratch / "kept"], check=True)
            (cache() / name).parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                (scratch / "kept").rename(cache() / name)
            shutil.rmtree(scratch, ignore_errors=True)


def seed_layers(home: Path) -> None:
    """Put into a new home what `save_layers` has kept: builds of the same begin with it."""
    (home / "build-cache").mkdir(parents=True, exist_ok=True)
    for kept in (cache() / "layers").glob("*.tar"):
        with contextlib.suppress(OSError):  # a small disk stays small
            os.link(kept, home / "build-cache" / kept.name)


def save_layers(home: Path, dockerfile: str | bytes) -> None:
    """Keep the layers of a build, for servers that build the same later; nobody writes into these files."""
    content = dockerfile.encode() if isinstance(dockerfile, str) else dockerfile
    (cache() / "layers").mkdir(parents=True, exist_ok=True)
    for seed_id in (path.name.removeprefix("seed-") for path in (home / "builder").glob("seed-*")):
        _, name = CacheKey(OPERATOR, seed_id, "", find_beginning(content)).names()
        with contextlib.suppress(OSError):  # another run was first, or this server keeps none
            os.link(home / "build-cache" / name, cache() / "layers" / name)


def _fetched(place: Path) -> list[str]:
    """Return what a home or the cache has of programs: what sandboxes of builds are made of, and each package."""
    packages = [f"packages/{path.name}" for path in place.glob("packages/[!.]*")]
    return [*(["builder"] if (place / "builder").is_dir() else []), *packages]


def _copy_store(source: Path, destination: Path) -> None:
    """Copy a container store; layers are never written to, and are shared as hard links where that can be."""
    shares = source.stat().st_dev == destination.parent.stat().st_dev
    subprocess.run(["cp", "-al" if shares else "-a", source, destination], check=True)
    for directory, names, files in os.walk(destination) if shares else ():
        if Path(directory).parent.name == "overlay":
            names[:] = [name for name in names if name != "diff"]
        for path in (Path(directory, name) for name in files):
            scratch = path.with_name(f"{path.name}.copy")
            shutil.copy2(path, scratch, follow_symlinks=False)
            scratch.replace(path)


def _copy_tree(source: Path, destination: Path) -> None:
    """Copy by hard links where the file system allows it; nobody writes into these files."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, destination, symlinks=True, copy_function=link)
