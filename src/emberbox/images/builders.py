"""Who turns a context with a Dockerfile, or an image, into a root file system: the host's own tools, or a sandbox."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emberbox.host.foreign_programs import ForeignPrograms
from emberbox.images.base import BuildPlan
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.containers import BuildNetwork, BuildSources, Containers, LogLine, TakeLine, make_root
from emberbox.images.dockerfile import prepare
from emberbox.images.managed import ManagedImages
from emberbox.images.substitutes import Base
from emberbox.model.egress import EgressPolicy

BuildNetworkScope = Callable[[EgressPolicy | None], contextlib.AbstractAsyncContextManager[BuildNetwork]]


@dataclass(frozen=True, slots=True)
class ContainerBuild:
    """One Dockerfile to build.

    Args:
        plan: what it is for.
        directory: of this build's own, for whatever is needed on the way; removed at its end.
        context: the directory that has the Dockerfile at its root; of an image that is there already, its layout.
        root: the file that the root file system goes to; there is none yet.
        timeout_s: seconds until the build is stopped.
        say: takes lines for the build's log.
        take_line: the same for what a tool says, which waits while too many lines are not stored yet.
        own_kernel: whether guests boot a kernel of their own; else the root file system has the agent, and is packed as
            gVisor reads it.
        bases: images that the Dockerfile names and the operator has put others in place of.
        modules: what guests have as `/lib/modules/<release>`, in a directory named for the release; None: nothing.
    """

    plan: BuildPlan
    directory: Path
    context: Path
    root: Path
    timeout_s: float
    say: LogLine
    take_line: TakeLine
    own_kernel: bool = True
    bases: tuple[Base, ...] = ()
    modules: Path | None = None


class ContainerBuilder(Protocol):
    """Builds Dockerfiles."""

    async def prepare(self, say: LogLine) -> None:
        """Make what the first build needs.

        Args:
            say: told of what takes long.

        Raises:
            HostError: it cannot be made.
        """
        ...

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """Build one, and pack its files and what randomness.py adds to them.

        Raises:
            BuildError: the Dockerfile's build failed, took too long, or there is nothing to run.
            HostError: the machine lacks something.
        """
        ...

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """Take an image that is there already, in a layout that `ImageImporter` made; the rest is as with `build`.

        Raises:
            BuildError: it cannot be unpacked, or its user does not exist.
            HostError: the machine lacks something.
        """
        ...


class HostBuilder:
    """Builds with the host's buildah and runc, which run as this server's user: for Dockerfiles that it trusts.

    Args:
        containers: the container store.
        managed: the base images.
        network: gives RUN steps their network.
        authorities: what builds and guests trust (PEM); empty: nothing in particular.
        foreign: what it builds for, where that is not what this machine has; it is let run for RUN steps.
    """

    def __init__(
        self, containers: Containers, managed: ManagedImages, network: BuildNetworkScope, authorities: str = "",
        foreign: ForeignPrograms | None = None,
    ) -> None:  # fmt: skip
        self._foreign = foreign
        self._authorities = authorities
        self._containers = containers
        self._managed = managed
        self._network = network

    async def prepare(self, say: LogLine) -> None:
        """See `ContainerBuilder`."""
        await self._managed.ensure_debian(say)

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `ContainerBuilder`."""
        plan, name = work.plan, _name(work)
        if self._foreign is not None:
            await self._foreign.ensure()
        async with self._containers.for_build(work.directory / "containers") as containers:
            sources = await self._prepare(work, containers)
            work.say("Building the Dockerfile")
            async with self._network(plan.egress) as network:
                await containers.build(sources, name, network, work.timeout_s, work.take_line, self._authorities)
            config, notes = await containers.read_config(name)
            for note in notes:
                work.say(note)
            return await self._pack(work, containers, config)

    async def _prepare(self, work: ContainerBuild, containers: Containers) -> BuildSources:
        """Write the Dockerfile as it is built, and find what is used in place of images that it names."""
        text = (work.context / "Dockerfile").read_bytes().decode(errors="surrogateescape")
        prepared = prepare(text, "" if self._foreign is None else self._foreign.architecture.platform)
        for note in prepared.notes:
            work.say(note)
        given = {base.name for base in work.bases}
        names = tuple(name for name in prepared.stand_ins if name not in given)
        used = await self._managed.prepare(names, work.say)
        for number, base in enumerate(work.bases):
            used[base.name] = f"localhost/emberbox-base:{number}"
            if base.layout is not None:
                await containers.load(base.layout, used[base.name], work.timeout_s)
            else:
                used[base.name] = await self._managed.find_local(base.used)
        written = work.directory / "Dockerfile"
        written.write_bytes(prepared.text.encode(errors="surrogateescape"))
        return BuildSources(work.context, written, used)

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `ContainerBuilder`."""
        async with self._containers.for_build(work.directory / "containers", is_alone=True) as containers:
            work.say("Unpacking the image")
            await containers.load(work.context, _name(work), work.timeout_s)
            config, _ = await containers.read_config(_name(work))  # what is noted has been said already
            return await self._pack(work, containers, config)

    async def _pack(
        self, work: ContainerBuild, containers: Containers, config: ImageConfig
    ) -> tuple[ImageConfig, RootFileSystem]:
        work.say("Packing the root file system")
        environment = {**dict(config.environment), **work.plan.environment}
        root = await make_root(
            containers, _name(work), work.root, config.user, environment, own_kernel=work.own_kernel,
            authorities=self._authorities, architecture=None if self._foreign is None else self._foreign.architecture,
            modules=work.modules,
        )  # fmt: skip
        return config, root


def _name(work: ContainerBuild) -> str:
    return f"localhost/emberbox-build/{work.plan.build_id}"
