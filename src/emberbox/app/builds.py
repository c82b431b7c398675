"""What builds are made with: containers, base images, the kernel, and a network for RUN steps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from emberbox.app.objects import ObjectStorage
from emberbox.background import Background
from emberbox.host.architecture import ARM_64, Architecture
from emberbox.host.foreign_programs import ForeignPrograms
from emberbox.host.kernel import Kernel, ensure_kernel
from emberbox.host.network.rules import has_names
from emberbox.host.network.slots import DNS_ADDRESS
from emberbox.host.network.tap import TapNetwork
from emberbox.host.space import DiskSpace
from emberbox.host.trust_stores import find_build_authorities
from emberbox.images.builders import BuildNetworkScope, ContainerBuilder, HostBuilder
from emberbox.images.containers import BuildNetwork, Containers
from emberbox.images.foreign import LoadingBuilder
from emberbox.images.importer import ImageImporter, Registries
from emberbox.images.managed import ManagedImages
from emberbox.images.pipeline import Limits, Pipeline, Workshop
from emberbox.images.sandbox.base import PROCESSES_MAX
from emberbox.images.sandbox.base import Limits as SandboxLimits
from emberbox.images.sandbox.builder import SandboxBuilder
from emberbox.images.sandbox.caches import LayerCaches
from emberbox.images.sandbox.choice import NEEDS_NETWORKS, ON_HOST, ChoosingBuilder, find_sandbox_obstacle, make_sandbox
from emberbox.images.sandbox.root import BuilderRoots
from emberbox.images.substitutes import read_substitutes
from emberbox.machine.guests import GuestHost
from emberbox.machine.local import Places
from emberbox.model.egress import EgressPolicy
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import HostError
from emberbox.settings import Settings

log = logging.getLogger(__name__)


def start_pipeline(
    settings: Settings, guests: GuestHost, tap: TapNetwork | None, objects: ObjectStorage, space: DiskSpace,
    places: Places, running: contextlib.AsyncExitStack,
) -> Pipeline:  # fmt: skip
    """Make the pipeline, and begin to make what the first build needs."""
    containers = Containers(settings.home / "containers")
    running.push_async_callback(containers.close)
    managed, kernel = ManagedImages(containers, settings.home / "base"), _KernelFinder(settings.home / "kernel")
    authorities = find_build_authorities(settings.build_ca)
    if authorities:
        log.info("builds and guests trust authorities of the operator's (docs/builds.md)")
    choice = _BuilderChoice(settings, tap, authorities, managed)
    on_host = HostBuilder(containers, managed, _build_network(tap), authorities)
    builder = choice.choose(on_host, choice.sandboxed())
    background = Background()
    running.push_async_callback(background.close)
    first = kernel if guests.engines.own.capabilities.own_kernel else None
    background.start(_prepare(first, builder), "the making of the base image")
    return Pipeline(
        builder,
        guests,
        kernel,
        objects.client,
        Limits(settings.artifact_max_bytes, settings.artifact_max_unpacked_bytes, settings.build_timeout_s),
        space,
        places,
        s3_has_accounts=objects.is_embedded,
        importer=ImageImporter(_registries(settings), _build_network(tap), authorities),
        substitutes=read_substitutes(settings.stand_ins),
        others=_open_workshops(choice, running),
    )


def _open_workshops(choice: _BuilderChoice, running: contextlib.AsyncExitStack) -> dict[str, Workshop]:
    """Return what builds for other architectures are made with; nothing of it is fetched or changed before the first.

    Args:
        choice: what builds.
        running: takes back what the machine's kernel is told.
    """
    settings = choice.settings
    if settings.arm64 != "emulate":
        return {}
    foreign = ForeignPrograms(settings.home, ARM_64)
    running.push_async_callback(foreign.close)
    containers = Containers(settings.home / f"containers-{ARM_64.debian}", architecture=ARM_64)
    running.push_async_callback(containers.close)
    bases = ManagedImages(containers, settings.home / f"base-{ARM_64.debian}", foreign=foreign)
    on_host = HostBuilder(containers, bases, _build_network(choice.tap), choice.authorities, foreign)
    kernel = _KernelFinder(settings.home / f"kernel-{ARM_64.debian}", ARM_64)
    return {ARM64_ENGINE: Workshop(choice.choose(on_host, LoadingBuilder(choice.sandboxed(ARM_64))), kernel)}


def _registries(settings: Settings) -> Registries:
    named = {one.partition("://")[2] or one: one.startswith("http://") for one in settings.registries.split(",") if one}
    return Registries(named, Path(settings.registry_auth).absolute() if settings.registry_auth else None)


class _KernelFinder:
    """Returns the guest kernel, which is made once; by default for what this machine has."""

    def __init__(self, directory: Path, architecture: Architecture | None = None) -> None:
        self._directory = directory
        self._architecture = architecture
        self._lock = asyncio.Lock()

    async def __call__(self) -> Kernel:
        async with self._lock:
            return await ensure_kernel(self._directory, self._architecture)


class _BuilderChoice:
    """What builds Dockerfiles: sandboxes, or the host, as the operator wants it and the machine can do it.

    Args:
        settings: the server's.
        tap: the networks of microVMs; None where there are none of the host's, and so no sandboxes.
        authorities: what builds and guests trust (PEM); empty: nothing in particular.
        managed: the base images.

    Raises:
        HostError: it is to be done in sandboxes, and this server cannot make them.
    """

    def __init__(self, settings: Settings, tap: TapNetwork | None, authorities: str, managed: ManagedImages) -> None:
        self.settings = settings
        self.tap = tap
        self.authorities = authorities
        self._sandbox = make_sandbox(settings.home, settings.runsc)
        self._roots = BuilderRoots(settings.home / "builder", managed, self._sandbox)
        if tap is None and settings.builds == "sandbox":
            raise HostError(f"{NEEDS_NETWORKS}; start the server as root, or set EMBERBOX_BUILDS=host")
        if tap is None and settings.builds == "auto":
            log.warning("%s; %s", ON_HOST, NEEDS_NETWORKS)

    def sandboxed(self, architecture: Architecture | None = None) -> SandboxBuilder:
        """Return what builds in sandboxes; of another architecture it can only take images that are there already."""
        settings = self.settings
        limits = SandboxLimits(
            settings.build_memory_bytes,
            settings.build_disk_bytes,
            PROCESSES_MAX,
            settings.build_timeout_s,
            settings.build_processors,
        )
        caches = LayerCaches(settings.home / "build-cache", settings.build_cache_bytes)
        return SandboxBuilder(
            self._sandbox, self._roots, _build_network(self.tap), limits, caches, self.authorities, architecture
        )

    def choose(self, on_host: ContainerBuilder, sandboxed: ContainerBuilder) -> ContainerBuilder:
        """Return the one of two that is to be used here."""
        if self.settings.builds == "host" or self.tap is None:
            return on_host
        if self.settings.builds == "sandbox":
            return sandboxed
        return ChoosingBuilder(sandboxed, on_host, lambda: find_sandbox_obstacle(self._sandbox))


async def _prepare(kernel: _KernelFinder | None, builder: ContainerBuilder) -> None:
    """Make what the first build needs while nobody waits for it yet: a kernel where the engine's guests boot one."""

    def say(line: str) -> None:
        log.info("%s", line)

    try:
        if kernel is not None:
            await kernel()
        await builder.prepare(say)
        log.info("what builds need is ready")
    except HostError as error:
        log.error("builds cannot work yet: %s", error)


def _build_network(tap: TapNetwork | None) -> BuildNetworkScope:
    """RUN steps get a microVM's network: the internet or what a policy says, and nothing of the host."""

    @contextlib.asynccontextmanager
    async def scope(egress: EgressPolicy | None) -> AsyncIterator[BuildNetwork]:
        if tap is None:
            if egress is not None:
                raise HostError("a network connector of an image needs networks of its own (docs/network.md: tap)")
            yield BuildNetwork()
            return
        slot = await tap.take()
        try:
            if egress is not None:
                await tap.restrict(slot, egress)
            await tap.open_to_builds(slot)
            resolver = DNS_ADDRESS if has_names(egress) else None
            yield BuildNetwork(slot.namespace_path, resolver)
        finally:
            await tap.give_back(slot)

    return scope
