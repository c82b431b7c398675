"""How images are named, and what is told of them together."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.states import ImageState, VersionState

MANAGED_IMAGES: Final = ("al2023-1", "debian12-1")
MANAGED_VERSION: Final = "1"
EARLIER_VERSION: Final = "0"
"""What templates name that were written in the service's first weeks; the base is the same."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """Names an image of an account's, or a managed one.

    Args:
        name: its name; a text that is no name where it cannot be one of here.
        named: how it was named, for errors.
    """

    name: str
    named: str


@dataclass(frozen=True, slots=True)
class VersionName:
    """Names a version of an image."""

    image: ImageName
    version: str


@dataclass(frozen=True, slots=True)
class VersionedImage:
    """An image with one of its versions."""

    image: Image
    version: ImageVersion

    @property
    def is_going(self) -> bool:
        """Whether it is being deleted, alone or with its image."""
        return self.image.state is ImageState.DELETING or self.version.state is VersionState.DELETING


@dataclass(frozen=True, slots=True)
class Processor:
    """A kind of processor."""

    architecture: str
    chipset: str
    generation: str


PROCESSORS: Final[Mapping[str, Processor]] = {
    "ARM_64": Processor("ARM_64", "GRAVITON", "2"),
    "X86_64": Processor("X86_64", "INTEL", "1"),
}
"""What versions are built for, by architecture; of AWS's own generations the emulated one is the second's."""

PROCESSOR: Final = PROCESSORS["ARM_64" if platform.machine() == "aarch64" else "X86_64"]
"""This machine's."""


def processor_of(engine: str) -> Processor:
    """Return what a version is built for, by the name of the engine that it runs on."""
    return PROCESSORS["ARM_64"] if engine == ARM64_ENGINE else PROCESSOR


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """An image with a build of one of its versions, and what that is for."""

    image: Image
    build: Build
    processor: Processor = PROCESSOR


@dataclass(frozen=True, slots=True)
class ManagedImage:
    """A base image that every account may build on.

    Args:
        name: its name.
        version: its only version.
        since: when it came to be here.
        architectures: what versions on it may be for.
    """

    name: str
    version: str
    since: datetime
    architectures: tuple[str, ...] = (PROCESSOR.architecture,)


ARCHITECTURES: Final = tuple(PROCESSORS)
"""Those of the service model."""


def takeable_architectures(*, others_too: bool) -> tuple[str, ...]:
    """Return the architectures that an image may ask for.

    Args:
        others_too: one that is not this machine's is taken, as this machine's or emulated.
    """
    return ARCHITECTURES if others_too else (PROCESSOR.architecture,)


def emulated_architectures(arm64: str) -> tuple[str, ...]:
    """Return those that are emulated here.

    Args:
        arm64: the setting EMBERBOX_ARM64.
    """
    return tuple(one for one in ("ARM_64",) if arm64 == "emulate" and one != PROCESSOR.architecture)
