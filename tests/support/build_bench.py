"""Container builds in sandboxes without a server: a context goes in, lines and an outcome come out."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from emberbox.app.builds import _build_network
from emberbox.host.network.place import PlaceNote
from emberbox.host.network.tap import TapNetwork
from emberbox.images.base import BuildPlan
from emberbox.images.bases import Bases
from emberbox.images.builders import ContainerBuild, ContainerBuilder, HostBuilder
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.containers import Containers
from emberbox.images.managed import ManagedImages
from emberbox.images.sandbox.base import PROCESSES_MAX, Limits
from emberbox.images.sandbox.builder import SandboxBuilder
from emberbox.images.sandbox.caches import LayerCaches
from emberbox.images.sandbox.groups import BuildGroups
from emberbox.images.sandbox.gvisor import GvisorSandbox
from emberbox.images.sandbox.root import BuilderRoots, RunscFinder
from emberbox.model.errors import BuildError
from emberbox.model.sizes import SIZES
from support.server import OPERATOR, save, seed

BASE = "FROM emberbox/debian:12\n"
LIMITS = Limits(memory_bytes=2 << 30, disk_bytes=4 << 30, processes=PROCESSES_MAX, timeout_s=900)
OTHER = "111111111111"


@dataclass(frozen=True)
class Built:
    """How a build ended.

    Args:
        lines: its log.
        config: of the image; None when it failed.
        root: what is known of its files.
        error: why it failed.
        packed: a copy of the root file system.
    """

    lines: tuple[str, ...]
    config: ImageConfig | None
    root: RootFileSystem | None
    error: BuildError | None
    packed: Path

    @property
    def text(self) -> str:
        """The whole log."""
        return "\n".join(self.lines)


class BuildBench:
    """Builds Dockerfiles, each in a sandbox.

    Args:
        home: a state directory that has a base image.
        tap: its networks.
        limits: of each build.
        cache_bytes: of an account's layers.
        authorities: what builds trust.
    """

    def __init__(self, home: Path, tap: TapNetwork, limits: Limits, cache_bytes: int, authorities: str) -> None:
        self.home = home
        self.network = _build_network(tap)
        self._limits = limits
        self.containers = Containers(home / "containers")
        managed = ManagedImages(self.containers, home / "base")
        sandbox = GvisorSandbox(RunscFinder(home), BuildGroups(home))
        roots = BuilderRoots(home / "builder", managed, sandbox)
        caches = LayerCaches(home / "build-cache", cache_bytes)

        def make_builders(authorities: str) -> dict[bool, ContainerBuilder]:
            return {
                False: SandboxBuilder(sandbox, roots, self.network, limits, caches, authorities),
                True: HostBuilder(self.containers, managed, self.network, authorities),
            }

        self._make_builders = make_builders
        self._builders = make_builders(authorities)

    def trust(self, authorities: str) -> None:
        """Let the builds from now on trust these authorities."""
        self._builders = self._make_builders(authorities)

    @property
    def builder(self) -> ContainerBuilder:
        """What builds in sandboxes."""
        return self._builders[False]

    async def build(
        self, dockerfile: str, files: Mapping[str, bytes] | None = None, account: str = OPERATOR, *,
        on_host: bool = False, substitutes: Bases | None = None, modules: Path | None = None,
    ) -> Built:  # fmt: skip
        """Build a Dockerfile, in a sandbox or on the host; images that it names may have substitutes."""
        directory = Path(tempfile.mkdtemp(dir=self.home))
        (directory / "context").mkdir()
        for name, content in {"Dockerfile": dockerfile.encode(), **(files or {})}.items():
            (directory / "context" / name).write_bytes(content)
        lines: list[str] = []

        async def take(line: str) -> None:
            lines.append(line)

        work = ContainerBuild(
            replace(PLAN, account_id=account), directory, directory / "context", directory / "root.erofs",
            self._limits.timeout_s, lines.append, take, modules=modules,
        )  # fmt: skip
        config = root = error = None
        limits = (1 << 30, 1 << 30, self._limits.timeout_s)
        try:
            if substitutes is not None:
                bases = await substitutes.gather(PLAN, work.context, directory / "bases", limits, take)
                work = replace(work, bases=bases)
            config, root = await self._builders[on_host].build(work)
        except BuildError as failure:
            error = failure
        packed = self.home / "last.erofs"
        if error is None:
            (directory / "root.erofs").replace(packed)
        shutil.rmtree(directory)
        return Built(tuple(lines), config, root, error, packed)


PLAN = BuildPlan(
    build_id="bench", image_id="i", image_name="n", image_arn="a", version="1.0", region="r", artifact_uri="s3://b/k",
    readable_prefixes=(), account_id=OPERATOR, size=SIZES[512], environment={}, all_capabilities=False, ready=None,
    validate=None,
)  # fmt: skip


@contextlib.contextmanager
def opened(packed: Path) -> Iterator[Path]:
    """Mount a root file system."""
    place = packed.with_name("opened")
    place.mkdir()
    subprocess.run(["mount", "-o", "ro,loop", packed, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


@contextlib.asynccontextmanager
async def build_bench(
    limits: Limits = LIMITS, cache_bytes: int = 0, authorities: str = ""
) -> AsyncIterator[BuildBench]:
    """Give a bench on a home of its own, with what earlier runs have kept."""
    home = Path(tempfile.mkdtemp(prefix="ebb-", dir="/tmp"))
    seed(home)
    (home / "runtime").mkdir()
    tap = TapNetwork(IPv4Network("10.213.0.0/16"), (0,), PlaceNote(home), Path("/etc/resolv.conf"), spare=1)
    try:
        await tap.open()
        try:
            bench = BuildBench(home, tap, limits, cache_bytes, authorities)
            yield bench
            await bench.containers.close()
        finally:
            await tap.close()
            save(home)
    finally:
        shutil.rmtree(home)
