"""What is asked of images; the names of images and versions are in `model/images.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emberbox.control.requests.idempotency import ClientRequest
from emberbox.control.requests.paging import PageRequest
from emberbox.model.hooks import HookSettings
from emberbox.model.images import ImageName, VersionName
from emberbox.model.launch_requests import LogTarget
from emberbox.model.states import VersionStatus


@dataclass(frozen=True, slots=True)
class ImageConfiguration:
    """What a version is to be, not checked yet; None is what is not stated (see `ImageRequest`).

    Args:
        base: the managed image under it.
        build_role: the ARN of the role that its build has.
        artifact_uri: where its code is.
        base_version: the managed image's version.
        memory_mib: the memory that its microVMs are to have at least.
        egress: the ARNs of its egress connectors; nothing takes the default.
        description: says what it is for.
        log_target: where its build's output goes.
        architectures: the processors that it is to be built for.
        capabilities: what its applications may do beyond the usual.
        hooks: those that its application has.
        environment: variables of its application.
        kms_key: what its snapshot is to be encrypted with.
    """

    base: ImageName
    build_role: str
    artifact_uri: str
    base_version: str | None = None
    memory_mib: int | None = None
    egress: tuple[str, ...] = ()
    description: str | None = None
    log_target: LogTarget | None = None
    architectures: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] | None = None
    hooks: HookSettings | None = None
    environment: Mapping[str, str] | None = None
    kms_key: str | None = None


@dataclass(frozen=True, slots=True)
class CreateImage:
    """Asks for an image with a first version.

    Args:
        name: unlike any other of the account's.
        configuration: of the version.
        tags: of the image.
        client_request: tells a repeat.
        image_id: what it is known by; None takes a new one.
    """

    name: str
    configuration: ImageConfiguration
    tags: Mapping[str, str]
    client_request: ClientRequest | None = None
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateImage:
    """Asks for a new version of an image.

    Args:
        image: which.
        configuration: the whole of the version; nothing is taken from the one before.
        client_request: tells a repeat.
    """

    image: ImageName
    configuration: ImageConfiguration
    client_request: ClientRequest | None = None


@dataclass(frozen=True, slots=True)
class ListImages:
    """Asks for images, newest first.

    Args:
        page: which page.
        part: of those on it, only these with this in their names.
    """

    page: PageRequest
    part: str = ""


@dataclass(frozen=True, slots=True)
class ListVersions:
    """Asks for the versions of an image, newest first."""

    image: ImageName
    page: PageRequest


@dataclass(frozen=True, slots=True)
class SetVersionStatus:
    """Asks to allow or refuse new launches of a version."""

    version: VersionName
    status: VersionStatus


@dataclass(frozen=True, slots=True)
class GetBuild:
    """Asks for a build of a version."""

    version: VersionName
    build_id: str


@dataclass(frozen=True, slots=True)
class ListBuilds:
    """Asks for the builds of a version; those for other processors than what is stated are left out."""

    version: VersionName
    page: PageRequest
    architecture: str | None = None
    chipset: str | None = None
    generation: str | None = None
