"""Builds for another architecture where they are made in sandboxes: images that are there already, and no Dockerfiles.

What runs another processor's programs is told to the machine's kernel (host/foreign_programs.py). A sandbox has a
kernel of its own, which knows nothing of that, so RUN steps cannot run there. To build on the host instead would weaken
the boundary in silence. An image that is there already needs no program of its own to be unpacked.
"""

from __future__ import annotations

from typing import Final

from emberbox.images.builders import ContainerBuild, ContainerBuilder
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.containers import LogLine
from emberbox.model.errors import BuildError

REFUSAL: Final = (
    "Dockerfiles for ARM_64 are built on the host alone, whose kernel emulates their RUN steps, and this server builds "
    "in sandboxes, which cannot do that. Have the operator set EMBERBOX_BUILDS=host, which makes Dockerfiles as "
    "trusted as the server (docs/arm.md), import an image that is there already, or leave cpuConfigurations out"
)


class LoadingBuilder:
    """Takes images that are there already, and refuses Dockerfiles.

    Args:
        sandboxed: takes them.
    """

    def __init__(self, sandboxed: ContainerBuilder) -> None:
        self._sandboxed = sandboxed

    async def prepare(self, say: LogLine) -> None:
        """See `builders.ContainerBuilder`."""
        await self._sandboxed.prepare(say)

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:  # noqa: ARG002 - the protocol's
        """Refuse it.

        Raises:
            BuildError: always.
        """
        raise BuildError("CONTAINER_BUILD_FAILED", REFUSAL)

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:
        """See `builders.ContainerBuilder`."""
        return await self._sandboxed.load(work)
