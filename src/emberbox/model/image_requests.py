"""What a version of an image is asked to be, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emberbox.model.hooks import Hook, HookName, HookSettings
from emberbox.model.launch_requests import LogTarget
from emberbox.model.sizes import SIZES, Size


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a version of an image is asked to be; None is what was not stated and has no default.

    Args:
        region: the region that it was asked for in.
        base: the name of the managed image under it.
        base_version: that one's version.
        build_role: the ARN of the role that its build has.
        artifact_uri: where its code is: in S3, or an image in a registry.
        memory_mib: the memory that its microVMs are asked to have at least; one of `SIZES`.
        egress: the ARNs of its egress connectors; the first counts.
        description: says what it is for.
        log_target: where its build's output goes; a build writes its log even where that is off.
        architectures: the processors that it is built for.
        capabilities: what of the operating system its applications may do beyond the usual.
        hooks: those that its application has.
        environment: variables of its application, over those of the Dockerfile.
        engine: the name of the engine that it is built for; empty is the server's own.
    """

    region: str
    base: str
    base_version: str
    build_role: str
    artifact_uri: str
    memory_mib: int
    egress: tuple[str, ...]
    description: str | None = None
    log_target: LogTarget | None = None
    architectures: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] | None = None
    hooks: HookSettings | None = None
    environment: Mapping[str, str] | None = None
    engine: str = ""

    @property
    def size(self) -> Size:
        """The size of its microVMs."""
        return SIZES[self.memory_mib]

    @property
    def has_all_capabilities(self) -> bool:
        """Whether its applications may do everything; ALL is the only capability that can be asked for."""
        return bool(self.capabilities)

    def find_hook(self, name: HookName) -> Hook | None:
        """Return a hook; None where it is not enabled."""
        return None if self.hooks is None else self.hooks.find(name)

    def log_group(self, image_name: str) -> str:
        """Return the log group of its image: its own, or the default of the image's name."""
        configured = None if self.log_target is None else self.log_target.group
        return configured or f"/aws/lambda-microvms/{image_name}"
