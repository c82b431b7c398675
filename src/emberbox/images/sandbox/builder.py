"""Builds Dockerfiles in sandboxes; the host sees lines, one JSON text with an outcome, and a file that it hands on."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from emberbox.host import native
from emberbox.host.architecture import Architecture
from emberbox.images.builders import BuildNetworkScope, ContainerBuild
from emberbox.images.config import ImageConfig, RootFileSystem, User
from emberbox.images.containers import LogLine
from emberbox.images.dockerfile import find_beginning
from emberbox.images.sandbox.base import Limits, Sandbox, SandboxPlan, Share
from emberbox.images.sandbox.caches import CacheKey, LayerCaches
from emberbox.images.sandbox.root import (
    CODE,
    COMMAND,
    ENVIRONMENT,
    STORE,
    BuilderRoots,
    Outcome,
    write_job,
)
from emberbox.images.substitutes import Base
from emberbox.model.errors import BuildError, HostError

_MODULES = "/run/modules"
_READ_BYTES = 1 << 20
"""Of a Dockerfile, to look for how it begins."""


class SandboxBuilder:
    """Runs each build in a sandbox of its own.

    Args:
        sandbox: runs them.
        roots: makes what they are made of.
        network: gives them their network.
        limits: what each may use.
        caches: keeps layers.
        authorities: what builds and guests trust (PEM); empty: nothing in particular.
        architecture: what images are for that it takes; None: what this machine has, which alone it can build for.
    """

    def __init__(
        self, sandbox: Sandbox, roots: BuilderRoots, network: BuildNetworkScope, limits: Limits, caches: LayerCaches,
        authorities: str = "", architecture: Architecture | None = None,
    ) -> None:  # fmt: skip
        self._sandbox = sandbox
        self._roots = roots
        self._network = network
        self._limits = limits
        self._caches = caches
        self._authorities = authorities
        self._architecture = architecture

    async def prepare(self, say: LogLine) -> None:
        """See `builders.ContainerBuilder`."""
        await self._roots.ensure(say)

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `builders.ContainerBuilder`."""
        work.say("Building the Dockerfile in a sandbox")
        return await self._run(work, "build")

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `builders.ContainerBuilder`."""
        work.say("Unpacking the image in a sandbox")
        return await self._run(work, "load")

    async def _run(self, work: ContainerBuild, kind: str) -> tuple[ImageConfig, RootFileSystem]:
        made = await self._roots.ensure(work.say)
        directory = work.directory / "sandbox"
        directory.mkdir()
        used, new_cache = directory / "used", directory / "cache"
        key = CacheKey(work.plan.account_id, made.seed_id, work.plan.image_name, _read_beginning(work))
        shares = [CODE, Share(made.seed, "/seed"), Share(work.context, "/context")]
        shares += [self._write_job(work, directory, kind), *_writable(work.root, "/root.erofs")]
        shares += [Share(base.layout, place) for base, place in _places(work) if base.layout is not None]
        shares += [] if work.modules is None else [Share(work.modules, _MODULES)]
        if self._caches.bytes_max and kind == "build":
            shares += _writable(new_cache, "/cache-out")
            shares += [Share(used, "/cache.tar")] if self._caches.hold(key, used) else []
        outcome = Outcome(lambda _line: None)

        async def take_line(line: str) -> None:
            if line.startswith("="):
                outcome.take(line)
            else:
                await work.take_line(line.removeprefix(" "))

        async with self._network(work.plan.egress) as network:
            plan = SandboxPlan(
                directory / "gvisor", made.root, COMMAND, ENVIRONMENT, tuple(shares), STORE, network, self._limits
            )
            plan.directory.mkdir()
            await self._sandbox.run(plan, take_line)
        try:
            told = outcome.read()
        except HostError:
            self._caches.drop(used)
            raise
        self._caches.keep(key, new_cache)
        shutil.rmtree(directory)
        return read_outcome(told)

    def _write_job(self, work: ContainerBuild, directory: Path, kind: str) -> Share:
        agent = {"source": _inside(native.agent_path()), "destination": native.AGENT_IN_IMAGE}
        return write_job(
            directory / "job.json",
            kind=kind,
            cache_bytes=self._caches.bytes_max,
            environment=dict(work.plan.environment),
            authorities=self._authorities,
            bases=[
                {"name": base.name, "used": base.used, "layout": None if base.layout is None else place}
                for base, place in _places(work)
            ],
            library=_inside(native.openssl_random_path(self._architecture)),
            agent=None if work.own_kernel else agent,
            modules=None if work.modules is None else {"source": _MODULES, "release": work.modules.name},
        )


def _read_beginning(work: ContainerBuild) -> bytes:
    with contextlib.suppress(OSError), (work.context / "Dockerfile").open("rb") as file:
        return find_beginning(file.read(_READ_BYTES))
    return b""


def _places(work: ContainerBuild) -> list[tuple[Base, str]]:
    """Return the bases that were fetched for a build, and where the sandbox has their layouts."""
    return [(base, f"/run/bases/{number}") for number, base in enumerate(work.bases)]


def _inside(path: Path) -> str:
    """Return where the sandbox has a file of our own code."""
    return f"{CODE.destination}/{path.relative_to(CODE.path)}"


def _writable(path: Path, destination: str) -> list[Share]:
    path.touch()
    return [Share(path, destination, is_writable=True)]


def read_outcome(told: dict[str, Any]) -> tuple[ImageConfig, RootFileSystem]:
    """Read what the sandbox says of the image, as far as it has the form that it should have.

    Raises:
        BuildError: the build failed.
        HostError: it has another form.
    """
    try:
        if "reason" in told:
            raise BuildError(_text(told["reason"]), _text(told.get("detail", "")))
        return _read_config(told["config"]), _read_root(told["root"])
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(f"the sandbox of the build told an outcome that makes no sense: {error}") from error


def _read_config(told: dict[str, Any]) -> ImageConfig:
    return ImageConfig(
        arguments=tuple(map(_text, told["arguments"])),
        environment=_pairs(told["environment"]),
        directory=_text(told["directory"]),
        user=_text(told["user"]),
        ports=tuple(map(_number, told["ports"])),
        ready=_text(told.get("ready", "")),
    )


def _read_root(told: dict[str, Any]) -> RootFileSystem:
    user = told["user"]
    groups = tuple(map(_number, user["groups"]))
    found = User(_number(user["uid"]), _number(user["gid"]), groups, _text(user["home"]))
    return RootFileSystem(found, _pairs(told["environment"]), tuple(map(_text, told["notes"])))


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a text is wanted")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError("a number is wanted")
    return value


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(text)) for name, text in value)
