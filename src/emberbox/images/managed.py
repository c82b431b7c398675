"""The managed base images, and the names that Dockerfiles use after FROM for them.

`debian12-1` is made here by mmdebstrap and needs no image registry. `al2023-1` is AWS's: its container images come
from AWS's public registry where that is reached; where it is not, their names stand for the Debian base, and the
build's log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from emberbox import process
from emberbox.host.bootstrap import bootstrap
from emberbox.host.foreign_programs import ForeignPrograms
from emberbox.images import stand_in
from emberbox.images.containers import Containers, LogLine
from emberbox.images.substitutes import LOCAL
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

DEBIAN_NAME = "localhost/emberbox/debian:12"
STAND_IN_NAME = "localhost/emberbox/stand-in"
STAND_IN_LABEL = "emberbox.stand-in"
AWS_REGISTRY = "public.ecr.aws"
AWS_NAMES = (
    "public.ecr.aws/lambda/microvms:al2023-minimal",
    "public.ecr.aws/lambda/microvms:al2023",
    "public.ecr.aws/amazonlinux/amazonlinux:2023",
    "public.ecr.aws/amazonlinux/amazonlinux:2023-minimal",
)
PACKAGES = ("ca-certificates", "curl")
"""What the Debian base has beyond Debian's essential packages and apt."""

_ONE_KEYRING = (
    'cd "$1/etc/apt/trusted.gpg.d" && rm debian-archive-*.asc && ln -s /usr/share/keyrings/debian-archive-keyring.gpg .'
)
_APT_OPTIONS = (
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::GzipIndexes "true"',
    "--dpkgopt=force-unsafe-io",
    f"--customize-hook={_ONE_KEYRING}",
)
"""What makes apt quicker in the base, as in Docker's images of Debian: no translated descriptions, packed indexes, no
fsync for each file. And Debian's keys in one file: for each repository apt runs three programs for each file of keys in
text."""

_REACH_TIMEOUT_S = limit_s(3.0)
_REACH_MEMORY_S = 300.0


class ManagedImages:
    """Makes base images when they are first needed.

    Args:
        containers: where they are stored.
        directory: keeps the archive of the Debian base between runs.
        packages: what a Debian base that is made here has.
        foreign: what they are for, where that is not what this machine has; it is let run first.
    """

    def __init__(
        self, containers: Containers, directory: Path, packages: Sequence[str] = PACKAGES,
        foreign: ForeignPrograms | None = None,
    ) -> None:  # fmt: skip
        self._containers = containers
        self._packages = packages
        self._foreign = foreign
        self._archive = directory / "debian12.tar"
        self._lock = asyncio.Lock()
        self._made = False
        self._reachable: tuple[float, bool] | None = None

    async def prepare(self, names: Sequence[str], log_line: LogLine) -> dict[str, str]:
        """Make sure that every name of ours in a Dockerfile resolves.

        Args:
            names: those of AWS's base images in it.
            log_line: told what was done, for the build's log.

        Returns:
            by name, the image that stands for it.

        Raises:
            HostError: the base cannot be made.
        """
        await self.ensure_debian(log_line)
        if not names:
            return {}
        if await self._registry_is_reachable():
            await self._drop_stand_ins()
            return {}
        used: dict[str, str] = {}
        for name in names:
            if not await self._is_real(name):
                used[name] = await self._ensure_stand_in()
                log_line(f"NOTE: {AWS_REGISTRY} is out of reach; {name} stands for the local Debian 12 base here")
        return used

    async def find_local(self, name: str) -> str:
        """Return what one of `substitutes.LOCAL` is called in the store; `prepare` has been called."""
        return DEBIAN_NAME if name == LOCAL[0] else await self._ensure_stand_in()

    async def ensure_debian(self, log_line: LogLine) -> None:
        """Make the Debian base when it is not stored.

        Raises:
            HostError: mmdebstrap or buildah failed.
        """
        async with self._lock:
            if self._made:
                return
            await self._containers.drop_unless_whole()
            if await self._containers.has_image(DEBIAN_NAME):
                self._made = True
                return
            await self._ensure_archive(log_line)
            log_line("Storing the base image debian12-1 ...")
            await self._containers.import_root(self._archive, DEBIAN_NAME)
            self._made = True

    async def ensure_archive(self, log_line: LogLine) -> Path:
        """Return the archive of the Debian base; make it when it is not there.

        Raises:
            HostError: mmdebstrap failed.
        """
        async with self._lock:
            await self._ensure_archive(log_line)
            return self._archive

    async def _ensure_archive(self, log_line: LogLine) -> None:
        if not self._archive.exists():
            how_long = "about half a minute" if self._foreign is None else "some minutes"
            log_line(f"Making the base image debian12-1 with mmdebstrap (once; {how_long}) ...")
            await _bootstrap(self._archive, self._packages, self._foreign)

    async def _ensure_stand_in(self) -> str:
        """Make the Debian base with `dnf` when it is not stored; return its name."""
        name = f"{STAND_IN_NAME}:{stand_in.version()}"
        async with self._lock:
            if not await self._containers.has_image(name):
                with tempfile.NamedTemporaryFile(prefix="emberbox-stand-in-") as file:
                    stand_in.write_archive(Path(file.name))
                    await self._containers.add_layer(DEBIAN_NAME, Path(file.name), name, STAND_IN_LABEL)
        return name

    async def _is_real(self, name: str) -> bool:
        """Say whether a name is stored and is not a stand-in: one of an earlier release was the Debian base itself."""
        stored = await self._containers.image_id(name)
        if stored is None or stored == await self._containers.image_id(DEBIAN_NAME):
            return False
        return not await self._containers.has_label(name, STAND_IN_LABEL)

    async def _drop_stand_ins(self) -> None:
        """Take away names that earlier releases gave to a stand-in."""
        for name in AWS_NAMES:
            if await self._containers.has_image(name) and not await self._is_real(name):
                await self._containers.untag(name)

    async def _registry_is_reachable(self) -> bool:
        """Ask the registry, but not at every build."""
        now = time.monotonic()
        if self._reachable is None or now - self._reachable[0] > _REACH_MEMORY_S:
            self._reachable = now, await asyncio.to_thread(_answers, f"https://{AWS_REGISTRY}/v2/")
        return self._reachable[1]


async def _bootstrap(archive: Path, packages: Sequence[str], foreign: ForeignPrograms | None) -> None:
    options: tuple[str, ...] = ()
    if foreign is not None:
        await foreign.ensure()
        options = (f"--architectures={foreign.architecture.debian}", "--skip=check/qemu")  # it has been tried already
    try:
        await bootstrap(archive, "bookworm", packages, options=(*_APT_OPTIONS, *options))
    except process.CommandError as error:
        raise HostError(f"the base image debian12-1 cannot be made: {error}") from error


def _answers(url: str) -> bool:
    try:
        with contextlib.closing(urllib.request.urlopen(url, timeout=_REACH_TIMEOUT_S)):  # noqa: S310 - fixed https
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
