"""What is refused of an image's configuration beyond the service model, and its defaults (dossier, 2.1 to 2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from emberbox.control.images.commands import ImageConfiguration
from emberbox.control.images.engines import choose_engine
from emberbox.control.requests.tags import ENGINE_TAG, check_tags, engine_of
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import ValidationError
from emberbox.model.hooks import BUILD_HOOKS, RUNTIME_HOOKS, HookName, HookSettings
from emberbox.model.image_references import is_image_uri, parse_image_uri
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import EARLIER_VERSION, MANAGED_IMAGES, MANAGED_VERSION
from emberbox.model.sizes import DEFAULT_MEMORY_MIB, SIZES

_RESERVED: Final = re.compile(r"AWS_REGION|AWS_LAMBDA_MICROVM_.*")
_S3_URI: Final = re.compile(r"s3://[^/]+/.+", re.DOTALL)


def refuse_kms_key(key: str | None) -> None:
    """Refuse a KMS key: there is none here to encrypt a snapshot with, and ignoring it would be a lie.

    Raises:
        ValidationError: one is given.
    """
    if key is not None:
        raise ValidationError("KMS keys are not available here. Leave kmsKeyIdentifier out.")


def check_configuration(
    asked: ImageConfiguration,
    tags: Mapping[str, str],
    region: str,
    egress: Sequence[str],
    architectures: Sequence[str],
    emulated: Sequence[str] = (),
) -> ImageRequest:
    """Return a configuration with its defaults filled in.

    Args:
        asked: what is asked for.
        tags: those that the image has, or is to have.
        region: the region played.
        egress: the checked egress connectors.
        architectures: those that an image may ask for.
        emulated: those of them that are emulated.

    Raises:
        ValidationError: a rule of the service is broken; of several, the first in AWS's order.
    """
    base_version = _check_base(asked)
    memory_mib = _check_memory(asked)
    _check_artifact(asked.artifact_uri)
    _check_environment(asked.environment or {})
    _check_hooks(asked.hooks or HookSettings())
    _check_architectures(asked.architectures or (), architectures)
    refuse_kms_key(asked.kms_key)
    check_tags(tags)
    engine = choose_engine(tags, asked.architectures, emulated)
    if engine == ARM64_ENGINE and engine_of(tags) not in ("", "qemu"):
        raise ValidationError(
            f"ARM_64 is emulated here, which the engine {engine_of(tags)} cannot do. Take the tag '{ENGINE_TAG}' away, "
            "or leave cpuConfigurations out to take what there is."
        )
    return ImageRequest(
        region=region,
        base=asked.base.name,
        base_version=base_version,
        build_role=asked.build_role,
        artifact_uri=asked.artifact_uri,
        memory_mib=memory_mib,
        egress=tuple(egress),
        description=asked.description,
        log_target=asked.log_target,
        architectures=asked.architectures,
        capabilities=asked.capabilities,
        hooks=asked.hooks,
        environment=asked.environment,
        engine=engine,
    )


def _check_base(asked: ImageConfiguration) -> str:
    """Return the base's version as it is told; in that form AWS does not take it (ACK and Terraform know this)."""
    version = MANAGED_VERSION if asked.base_version is None else asked.base_version
    if asked.base.name not in MANAGED_IMAGES or version not in (MANAGED_VERSION, EARLIER_VERSION):
        raise ValidationError(
            f"No managed MicroVM Image with arn {asked.base.named} and version {version} is available"
        )
    return f"{version}.0"


def _check_memory(asked: ImageConfiguration) -> int:
    memory_mib = DEFAULT_MEMORY_MIB if asked.memory_mib is None else asked.memory_mib
    if memory_mib not in SIZES:
        raise ValidationError(
            f"The requested memory size of {memory_mib} MiB is not supported by base MicroVM image "
            f"{asked.base.named}. Supported memory sizes in MiB are: {list(SIZES)}."
        )
    return memory_mib


def _check_artifact(uri: str) -> None:
    if is_image_uri(uri):
        parse_image_uri(uri)
    elif not _S3_URI.fullmatch(uri):
        raise ValidationError("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>")


def _check_environment(variables: Mapping[str, str]) -> None:
    for name in variables:
        if _RESERVED.fullmatch(name):
            raise ValidationError(f"Environment variable key '{name}' is reserved")


def _check_hooks(hooks: HookSettings) -> None:
    has_runtime, has_build = (any(map(hooks.is_enabled, names)) for names in (RUNTIME_HOOKS, BUILD_HOOKS))
    if has_runtime and not hooks.is_enabled(HookName.READY):
        raise ValidationError(
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook "
            "(run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished "
            "initializing so the snapshot is taken in a ready state."
        )
    if (has_runtime or has_build) and hooks.port is None:
        raise ValidationError("The hooks port must be specified when any hook is enabled")


def _check_architectures(asked: Sequence[str], available: Sequence[str]) -> None:
    for architecture in asked:
        if architecture not in available:
            raise ValidationError(
                f"The architecture {architecture} is not available on this machine. "
                f"Available architectures are: [{', '.join(available)}]. "
                "Leave cpuConfigurations out to take what there is, or have the operator set EMBERBOX_ARM64=host, "
                "which takes ARM_64 as that."
            )
