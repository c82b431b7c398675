"""Builds for another architecture where Dockerfiles are built in sandboxes: they are refused, and the refusal says why.

What runs another processor's programs is told to the machine's kernel (host/foreign_programs.py). A sandbox has a
kernel of its own, which knows nothing of that. To build on the host instead would weaken the boundary in silence.
"""

from __future__ import annotations

from typing import Final

from emberbox.images.builders import ContainerBuild
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.containers import LogLine
from emberbox.model.errors import BuildError

REFUSAL: Final = (
    "images for ARM_64 are built on the host alone, whose kernel emulates their RUN steps, and this server builds in "
    "sandboxes, which cannot do that. Have the operator set EMBERBOX_BUILDS=host, which makes Dockerfiles as trusted "
    "as the server (docs/arm.md), or leave cpuConfigurations out to take what the machine has"
)


class RefusingBuilder:
    """Refuses every build."""

    async def prepare(self, say: LogLine) -> None:
        """Make nothing."""

    async def build(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:  # noqa: ARG002 - the protocol's
        """See `builders.ContainerBuilder`.

        Raises:
            BuildError: always.
        """
        raise BuildError("CONTAINER_BUILD_FAILED", REFUSAL)

    async def load(self, work: ContainerBuild) -> tuple[ImageConfig, RootFileSystem]:  # noqa: ARG002 - the protocol's
        """See `builders.ContainerBuilder`.

        Raises:
            BuildError: always.
        """
        raise BuildError("CONTAINER_BUILD_FAILED", REFUSAL)
