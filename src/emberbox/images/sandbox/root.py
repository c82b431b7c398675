"""What sandboxes of builds are made of: gVisor, a root file system with BuildKit, a store that has the base image.

All of it is made once, under the home, of Debian's packages; then it is only read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberbox import process
from emberbox.host import scratch
from emberbox.host.bootstrap import bootstrap
from emberbox.host.debian_packages import find_archive
from emberbox.host.network.slots import DNS_ADDRESS
from emberbox.host.runsc.program import ensure_runsc
from emberbox.images.containers import LogLine
from emberbox.images.managed import ManagedImages
from emberbox.images.sandbox.base import PROCESSES_MAX, Limits, Sandbox, SandboxPlan, Share
from emberbox.images.sandbox.waiting import Announcer
from emberbox.model.errors import HostError

SUITE = "trixie"
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "python3", "erofs-utils", "ca-certificates")
SOURCES = Path(__file__).resolve().parents[2]
STORE = "/var/lib/docker"
ENVIRONMENT = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/run"),
    ("TMPDIR", "/run"),
    ("PYTHONPATH", "/code"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
)
COMMAND = ("python3", "-m", "emberbox.images.inside")
SEED_FORM = 2
"""Changes when what a seed has does."""

SEED_LIMITS = Limits(memory_bytes=4 << 30, disk_bytes=8 << 30, processes=PROCESSES_MAX, timeout_s=600)

_MOUNT_DIRECTORIES = ("code/emberbox", "context", "seed", "var/lib/docker")
_MOUNT_FILES = ("job.json", "root.erofs", "cache.tar", "cache-out", "base.tar")
_NEEDLESS = ("doc", "man", "info", "locale")


@dataclass(frozen=True, slots=True)
class BuilderRoot:
    """What is there.

    Args:
        root: the root file system of sandboxes.
        seed: the store that builds begin with.
        seed_id: changes with it.
    """

    root: Path
    seed: Path
    seed_id: str


class BuilderRoots:
    """Makes it when it is first needed.

    Args:
        directory: where it is kept.
        managed: makes the archive of the base image.
        sandbox: runs what stores the base image.
    """

    def __init__(self, directory: Path, managed: ManagedImages, sandbox: Sandbox) -> None:
        self._directory = directory
        self._managed = managed
        self._sandbox = sandbox
        self._lock = asyncio.Lock()
        self._made: BuilderRoot | None = None
        self._announcer = Announcer()

    async def ensure(self, say: LogLine) -> BuilderRoot:
        """Return it.

        Args:
            say: told of what takes long, also where somebody else has begun it.

        Raises:
            HostError: something cannot be had or made.
        """
        with self._announcer.heard_by(say) as say_to_all:
            async with self._lock:
                if self._made is None:
                    self._made = await self._make(say_to_all)
                return self._made

    async def _make(self, say: LogLine) -> BuilderRoot:
        base = await self._managed.ensure_archive(say)
        root = self._directory / "root"
        if not root.exists():
            say("Making the builder with mmdebstrap (once; about half a minute) ...")
            await _make_root(root)
        seed_id = _identify(base)
        seed = self._directory / f"seed-{seed_id}"
        if not seed.exists():
            say("Storing the base image for builds ...")
            await self._make_seed(root, base, seed)
        return BuilderRoot(root, seed, seed_id)

    async def _make_seed(self, root: Path, base: Path, seed: Path) -> None:
        for old in self._directory.glob("seed-*"):
            await scratch.remove_tree(old)
        work, made = self._directory / "work", self._directory / ".seed"
        for left in (work, made):
            await scratch.remove_tree(left)
            left.mkdir(parents=True)
        job = write_job(work / "job.json", kind="seed")
        # The seed is the one directory that a sandbox may write: only our own base image and tools are in that one.
        shares = (CODE, job, Share(base, "/base.tar"), Share(made, "/seed", is_writable=True))
        plan = SandboxPlan(work / "sandbox", root, COMMAND, ENVIRONMENT, shares, STORE, None, SEED_LIMITS)
        outcome = Outcome(lambda _line: None)
        try:
            plan.directory.mkdir()
            await self._sandbox.run(plan, outcome.take)
            outcome.read()
            await process.run(["sync", "--file-system", made], timeout=600)
            made.replace(seed)
        finally:
            await scratch.remove_tree(work)
            await scratch.remove_tree(made)


CODE = Share(SOURCES, "/code/emberbox")


def write_job(path: Path, **job: Any) -> Share:
    """Write what inside/__main__.py is to do."""
    path.write_text(json.dumps(job))
    return Share(path, "/job.json")


class Outcome:
    """Takes what inside/__main__.py prints: nothing in it can be trusted.

    Args:
        say: gets the lines of the build's log.
    """

    _BYTES_MAX = 1 << 20

    def __init__(self, say: LogLine) -> None:
        self._say = say
        self._told = ""

    def take(self, line: str) -> None:
        """Take a line."""
        if line.startswith("="):
            self._told = line[1 : self._BYTES_MAX]
        else:
            self._say(line.removeprefix(" "))

    def read(self) -> dict[str, Any]:
        """Return the outcome.

        Raises:
            HostError: there is none, or the sandbox's tools have failed.
        """
        try:
            told = json.loads(self._told)
        except ValueError as error:
            raise HostError("the sandbox of the build ended without an outcome; the lines above may say why") from error
        if not isinstance(told, dict) or "failed" in told:
            raise HostError(f"the sandbox of the build failed: {str(told)[:2000]}")
        return told


async def _make_root(root: Path) -> None:
    await scratch.remove_tree(made := root.with_name(".root"))
    archive = root.with_name("root.tar")
    sources = [(await find_archive()).source_line(SUITE)]
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NEEDLESS]
    try:
        await bootstrap(archive, SUITE, PACKAGES, sources, options)
        made.mkdir()
        await process.run(["tar", "-C", made, "--numeric-owner", "--exclude=./dev/*", "-xpf", archive], timeout=600)
        for name in _MOUNT_DIRECTORIES:
            (made / name).mkdir(parents=True, exist_ok=True)
        for name in _MOUNT_FILES:
            (made / name).touch()
        (made / "etc/resolv.conf").unlink(missing_ok=True)
        (made / "etc/resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\n")
        await process.run(["sync", "--file-system", made], timeout=600)
        made.replace(root)
    except process.CommandError as error:
        raise HostError(f"the builder cannot be made of Debian's {SUITE}: {error}") from error
    finally:
        archive.unlink(missing_ok=True)
        await scratch.remove_tree(made)


def _identify(base: Path) -> str:
    status = base.stat()
    return hashlib.sha256(f"{SEED_FORM} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]


class RunscFinder:
    """Returns gVisor's runsc, which is fetched once.

    Args:
        home: the state directory.
        named: see `ensure_runsc`.
    """

    def __init__(self, home: Path, named: str = "") -> None:
        self._home = home
        self._named = named
        self._lock = asyncio.Lock()

    async def __call__(self) -> Path:
        """Return the program.

        Raises:
            HostError: it cannot be fetched.
        """
        async with self._lock:
            return await ensure_runsc(self._home, self._named)
