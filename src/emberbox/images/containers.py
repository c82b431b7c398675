"""Container builds with buildah: the Dockerfile's image, its settings, and its files as a root file system."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emberbox import process
from emberbox.host import disk, native, scratch
from emberbox.host.architecture import Architecture
from emberbox.images.authorities import SERVERS_VARIABLE, with_authorities, write_file, write_runtime
from emberbox.images.config import DEFAULT_PATH, ImageConfig, RootFileSystem, find_unheeded, find_user, parse_config
from emberbox.images.explanations import explain_failure
from emberbox.images.modules import find_modules
from emberbox.images.randomness import AddedFile, find_additions
from emberbox.model.errors import BuildError

_SYNC_TIMEOUT_S = 600
_BIND_RESOLV_CONF = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && shift && exec "$@"'

log = logging.getLogger(__name__)

LogLine = Callable[[str], None]
TakeLine = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BuildNetwork:
    """Where RUN steps are connected.

    Args:
        namespace: a network namespace; None takes the host's own network.
        resolver: the name server in that namespace.
    """

    namespace: Path | None = None
    resolver: str | None = None


@dataclass(frozen=True, slots=True)
class BuildSources:
    """What an image is built from.

    Args:
        context: the directory.
        dockerfile: the Dockerfile, anywhere.
        used: names of images in it, and those of the store that are used in their place.
    """

    context: Path
    dockerfile: Path
    used: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mounted:
    """The files of an image, in a container of their own: what is added to them, the image does not get."""

    container: str
    root: Path


class Containers:
    """A container store of our own, apart from any other on this machine.

    Args:
        directory: where images and build containers are kept.
        base: a store whose images can be used here, but not changed.
        architecture: what its images are for; None: what this machine has.
    """

    def __init__(self, directory: Path, base: Path | None = None, architecture: Architecture | None = None) -> None:
        self._directory = directory
        self._architecture = architecture
        self._platform = [] if architecture is None else ["--platform", architecture.platform]
        self._stamp = directory / "complete"
        driver = "overlay" if os.geteuid() == 0 else "vfs"
        self._options = [
            *["--root", str(directory / "storage"), "--runroot", str(directory / "run")],
            *["--storage-driver", driver],
            *([] if base is None else ["--storage-opt", f"{driver}.imagestore={base / 'storage'}"]),
        ]

        # A user other than root sees the owners of an image's files only inside the user namespace that maps them.
        self._enter = [] if os.geteuid() == 0 else ["buildah", *self._options, "unshare", "--"]

    async def _buildah(
        self, *arguments: str, timeout: float = 300, check: bool = True, directory: Path | None = None
    ) -> process.Completed:
        start = [] if directory is None else ["env", f"--chdir={directory}"]
        command = [*self._enter, *start, "buildah", *self._options, *arguments]
        return await process.run(command, environment=self._environment(), timeout=timeout, check=check, tied=True)

    def _environment(self) -> Mapping[str, str]:
        temporary = self._directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return scratch.tool_environment(temporary)

    @contextlib.asynccontextmanager
    async def for_build(self, directory: Path, *, is_alone: bool = False) -> AsyncIterator[Containers]:
        """Give a build a store of its own over this one, in a new directory; at the end nothing of it is left.

        So no build takes what another has left, whole or not, nor learns what others build.

        Args:
            directory: the directory.
            is_alone: it needs nothing of this store.
        """
        own = Containers(directory, None if is_alone else self._directory, self._architecture)
        try:
            yield own
        finally:
            try:
                await own.remove()
            except (
                Exception
            ):  # what became of the build counts; its directory is removed once more with its other files
                log.exception("the container store of a build could not be removed")

    async def remove(self) -> None:
        """Remove the store, with what a container that was stopped half-way has left on this machine.

        Raises:
            CommandError: something in it is still used.
        """
        state = self._directory / "runc"
        for container in state.iterdir() if state.exists() else ():
            await process.run(["runc", "--root", state, "delete", "--force", container.name], check=False)
        await scratch.remove_tree(self._directory)

    async def drop_unless_whole(self) -> None:
        """Remove all images unless they are sure to be as they were stored: the machine may have stopped meanwhile.

        Raises:
            CommandError: something in the store is still used.
        """
        if not self._stamp.exists():
            await self.remove()

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Let the store count as whole again only when all that was written in the block is on stable storage."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stamp.unlink(missing_ok=True)
        disk.sync(self._directory)
        yield
        await process.run(["sync", "--file-system", self._directory], timeout=_SYNC_TIMEOUT_S)
        self._stamp.touch()
        disk.sync(self._directory)

    async def pack(self, root: Path, destination: Path, *, plain: bool) -> None:
        """Pack the files of a mounted image into a root file system; `plain` as in `disk.make_root`.

        Raises:
            CommandError: it failed; the disk may be full.
        """
        await disk.make_root(root, destination, self._enter, plain=plain)

    async def has_image(self, name: str) -> bool:
        """Say whether an image of this name is stored."""
        return (await self._buildah("inspect", "--type", "image", name, check=False)).returncode == 0

    async def import_root(self, archive: Path, name: str) -> None:
        """Make an image of one layer from a tar archive of a root file system."""
        async with self._changing():
            container = (await self._buildah("from", *self._platform, "scratch")).stdout.strip()
            try:
                await self._buildah("add", container, str(archive), "/")
                await self._buildah("config", "--cmd", "/bin/bash", "--env", f"PATH={DEFAULT_PATH}", container)
                await self._buildah("commit", "--quiet", container, name)
            finally:
                await self._buildah("rm", container, check=False)

    async def add_layer(self, base: str, archive: Path, name: str, label: str) -> None:
        """Make an image of another with the files of a tar archive, and a label by which it is known."""
        async with self._changing():
            container = (await self._buildah("from", "--pull-never", base)).stdout.strip()
            try:
                await self._buildah("add", container, str(archive), "/")
                await self._buildah("config", "--label", f"{label}=yes", container)
                await self._buildah("commit", "--quiet", container, name)
            finally:
                await self._buildah("rm", container, check=False)

    async def has_label(self, name: str, label: str) -> bool:
        """Say whether an image is stored and has a label."""
        shown = await self._buildah("inspect", "--type", "image", name, check=False)
        config = json.loads(shown.stdout)["OCIv1"].get("config", {}) if shown.returncode == 0 else {}
        return label in (config.get("Labels") or {})

    async def tag(self, name: str, other: str) -> None:
        """Give an image another name."""
        await self._buildah("tag", name, other)

    async def untag(self, name: str) -> None:
        """Take a name away; it need not exist."""
        await self._buildah("untag", name, name, check=False)

    async def image_id(self, name: str) -> str | None:
        """Return the id of an image, None when it is not stored."""
        done = await self._buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", name, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    async def build(
        self, sources: BuildSources, name: str, network: BuildNetwork, timeout_s: float, take_line: TakeLine,
        authorities: str = "",
    ) -> None:  # fmt: skip
        """Build a Dockerfile; its output goes to `take_line`, as quickly as that takes it.

        Args:
            sources: the Dockerfile and what belongs to it.
            name: of the image.
            network: of RUN steps.
            timeout_s: seconds until it is stopped.
            take_line: see above.
            authorities: what registries, servers and RUN steps trust (PEM); empty: nothing in particular.

        Raises:
            BuildError: the build failed, or took longer than `timeout_s`.
        """
        environment, runtime = dict(self._environment()), "runc"
        if authorities:
            trusted = write_file(self._directory, authorities)
            environment[SERVERS_VARIABLE] = str(trusted)
            (self._directory / "bin").mkdir(exist_ok=True)
            runtime = str(write_runtime(self._directory / "bin", trusted, sys.executable))
        with entering(network, self._directory) as enter:
            command = [
                *enter,
                *[
                    "buildah",
                    *self._options,
                    "build",
                    *self._platform,
                    "--layers=false",
                    "--force-rm",
                    "--pull=missing",
                ],
                *["--network", "host", "--isolation", "oci", "--format", "docker", "--tag", name],
                *["--runtime", runtime, "--runtime-flag", f"root={self._directory / 'runc'}"],
                *(f"--build-context={given}=docker-image://{used}" for given, used in sources.used.items()),
                *["--file", str(sources.dockerfile), str(sources.context)],
            ]
            tail: list[str] = []

            async def take(line: str) -> None:
                tail.append(line)
                del tail[:-20]
                await take_line(line)

            try:
                await process.run(command, environment=environment, timeout=timeout_s, on_line=take, enclosed=True)
            except process.CommandError as error:
                raise _build_error(tail, error) from error

    async def load(self, layout: Path, name: str, timeout_s: float) -> None:
        """Take in the one image of an OCI layout, whose layers are unpacked by a process that is shut up with them.

        Raises:
            BuildError: it cannot be unpacked.
        """
        try:
            # It makes a name of the path, which for many paths is no name of an image: with letters in upper case, say.
            pull = ("pull", "--quiet", *self._platform, f"oci:{layout.name}")
            done = await self._buildah(*pull, timeout=timeout_s, directory=layout.parent)
            await self.tag(done.stdout.split()[-1], name)
        except process.CommandError as error:
            if "no space left" in str(error).lower():
                raise BuildError("DISK_STORAGE_FULL", "the disk is full; free some space and build again") from error
            raise BuildError("CONTAINER_BUILD_FAILED", f"the image cannot be unpacked: {error}") from error

    async def read_config(self, name: str) -> tuple[ImageConfig, tuple[str, ...]]:
        """Return what an image says about how to run it, and lines on what of it has no effect.

        Raises:
            BuildError: it names no program to run.
        """
        shown = json.loads((await self._buildah("inspect", "--type", "image", name)).stdout)
        config = parse_config(shown["OCIv1"].get("config", {}))
        return config, find_unheeded(shown.get("Docker", {}).get("config") or {})

    @contextlib.asynccontextmanager
    async def mounted(self, name: str) -> AsyncIterator[Mounted]:
        """Give an image's files as a directory for as long as the block lasts."""
        container = (await self._buildah("from", "--pull-never", name)).stdout.strip()
        try:
            yield Mounted(container, Path((await self._buildah("mount", container)).stdout.strip()))
        finally:
            await self._buildah("rm", container, check=False)

    async def add(self, mounted: Mounted, files: Sequence[AddedFile], scratch: Path) -> None:
        """Add files to a mounted image, over those that are there.

        Args:
            mounted: the image.
            files: their paths must have no links in them.
            scratch: a file to use on the way.
        """
        with tarfile.open(scratch, "x") as archive:
            for file in files:
                entry = tarfile.TarInfo(file.path.lstrip("/"))
                entry.size, entry.mode, entry.uid, entry.gid = len(file.content), file.mode, file.uid, file.gid
                archive.addfile(entry, io.BytesIO(file.content))
        try:
            await self._buildah("add", mounted.container, str(scratch), "/")
        finally:
            scratch.unlink()

    async def close(self) -> None:
        """Undo the mount that the store makes of its own directory."""
        await scratch.unmount(self._directory)


@contextlib.contextmanager
def entering(network: BuildNetwork, directory: Path) -> Iterator[list[str]]:
    """Return the commands that lead into the build's own surroundings; whoever runs them does so enclosed.

    These are its network, with the name server that is reached from there. It is run enclosed (process.py): whatever a
    RUN step leaves running ends with the build, also when the build is stopped half-way.
    """
    if os.geteuid() != 0:
        yield []
        return
    connect = [] if network.namespace is None else ["nsenter", f"--net={network.namespace}", "--"]
    with tempfile.NamedTemporaryFile("w", prefix="resolv-", dir=directory) as resolv:
        resolv.write(f"nameserver {network.resolver}\n" if network.resolver else "")
        resolv.flush()
        Path(resolv.name).chmod(0o644)
        bind = [] if network.namespace is None else ["sh", "-c", _BIND_RESOLV_CONF, "sh", resolv.name]
        yield [*connect, *bind]


def _build_error(tail: list[str], error: process.CommandError) -> BuildError:
    text = "\n".join(tail)
    if "no space left on device" in text.lower():
        return BuildError("DISK_STORAGE_FULL", "the disk is full; free some space and build again")
    if error.returncode is None:
        return BuildError("CONTAINER_BUILD_FAILED", str(error))
    return BuildError("CONTAINER_BUILD_FAILED", explain_failure(text, in_sandbox=False))


async def make_root(
    containers: Containers, name: str, destination: Path, user: str, environment: Mapping[str, str],
    *, own_kernel: bool = True, authorities: str = "", architecture: Architecture | None = None,
    modules: Path | None = None,
) -> RootFileSystem:  # fmt: skip
    """Pack an image's files, and what randomness.py and authorities.py add to them, into a root file system.

    Args:
        containers: the container store.
        name: the image.
        destination: the root file system's file.
        user: whom it runs as, as `USER` says it.
        environment: the variables that its processes get.
        own_kernel: its guests have a kernel of their own; for others the agent is among the files, which are packed
            plainly.
        authorities: what its processes trust (PEM); empty: nothing in particular.
        architecture: what it is for; None: what this machine has.
        modules: as `builders.ContainerBuild` has it.

    Raises:
        BuildError: the user does not exist, or the disk is full.
    """
    async with containers.mounted(name) as mounted:
        found = find_user(mounted.root, user)
        library = native.openssl_random_path(architecture).read_bytes()
        found_out = await asyncio.to_thread(find_additions, mounted.root, environment.get("OPENSSL_CONF"), library)
        added = with_authorities(found_out, authorities)
        try:
            files = list(added.files)
            if not own_kernel:
                files.append(AddedFile(native.AGENT_IN_IMAGE, native.agent_path().read_bytes(), 0o755))
            if modules is not None:
                files += await asyncio.to_thread(lambda: list(find_modules(mounted.root, modules, modules.name)))
            if files:
                await containers.add(mounted, files, destination.with_name("added.tar"))
            await containers.pack(mounted.root, destination, plain=not own_kernel)
        except process.CommandError as error:
            if "no space left" in str(error).lower():
                raise BuildError("DISK_STORAGE_FULL", "the disk is full; free some space and build again") from error
            raise
    return RootFileSystem(found, added.environment, added.notes)
