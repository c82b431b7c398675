"""What CreateMicrovmImage refuses beyond the service model, and the defaults that it fills in (dossier, 2.1 to 2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from emberbox.control.requests.tags import check_tags
from emberbox.images.managed import MANAGED_IMAGES, MANAGED_VERSION
from emberbox.model.arns import managed_image_arn
from emberbox.model.errors import ValidationError
from emberbox.model.hooks import BUILD_HOOK_DEFAULT_TIMEOUT_S, RUNTIME_HOOK_DEFAULT_TIMEOUT_S, Hook
from emberbox.model.sizes import DEFAULT_MEMORY_MIB, SIZES, Size

ARCHITECTURE: Final = "X86_64"
ENABLED: Final = "ENABLED"
RUNTIME_HOOKS: Final = ("run", "resume", "suspend", "terminate")
BUILD_HOOKS: Final = ("ready", "validate")
ECHOED: Final = (
    "description",
    "logging",
    "egressNetworkConnectors",
    "cpuConfigurations",
    "resources",
    "additionalOsCapabilities",
    "hooks",
    "environmentVariables",
    "baseImageArn",
    "baseImageVersion",
    "buildRoleArn",
    "codeArtifact",
)
_RESERVED: Final = re.compile(r"AWS_REGION|AWS_LAMBDA_MICROVM_.*")
_S3_URI: Final = re.compile(r"s3://[^/]+/.+", re.DOTALL)


def refuse_kms_key(parameters: Mapping[str, Any]) -> None:
    """Refuse a KMS key: there is none here to encrypt a snapshot with, and ignoring it would be a lie.

    Raises:
        ValidationError: one is given.
    """
    if "kmsKeyIdentifier" in parameters:
        raise ValidationError("KMS keys are not available here. Leave kmsKeyIdentifier out.")


def check_image_request(parameters: Mapping[str, Any], region: str, egress: list[str]) -> dict[str, Any]:
    """Return the build request with its defaults filled in.

    Args:
        parameters: of CreateMicrovmImage or UpdateMicrovmImage.
        region: the region played.
        egress: the checked egress connectors.

    Raises:
        ValidationError: a rule of the service is broken.
    """
    request = {name: parameters.get(name) for name in ECHOED}
    request["baseImageVersion"] = _check_base(parameters, region)
    request["resources"] = [{"minimumMemoryInMiB": _check_size(parameters).baseline_mib}]
    _check_artifact(parameters)
    _check_environment(parameters)
    _check_hooks(parameters.get("hooks") or {})
    _check_architecture(parameters)
    refuse_kms_key(parameters)
    check_tags(parameters.get("tags") or {})
    request["egressNetworkConnectors"] = egress
    return request


def _check_base(parameters: Mapping[str, Any], region: str) -> str:
    arn = parameters["baseImageArn"]
    version = parameters.get("baseImageVersion", MANAGED_VERSION)
    known = {managed_image_arn(region, name) for name in MANAGED_IMAGES}
    if arn not in known or version not in (MANAGED_VERSION, f"{MANAGED_VERSION}.0"):
        raise ValidationError(f"No managed MicroVM Image with arn {arn} and version {version} is available")
    return f"{MANAGED_VERSION}.0"


def _check_size(parameters: Mapping[str, Any]) -> Size:
    resources = parameters.get("resources") or [{"minimumMemoryInMiB": DEFAULT_MEMORY_MIB}]
    memory = resources[0]["minimumMemoryInMiB"]
    if memory not in SIZES:
        raise ValidationError(
            f"The requested memory size of {memory} MiB is not supported by base MicroVM image "
            f"{parameters['baseImageArn']}. Supported memory sizes in MiB are: {list(SIZES)}."
        )
    return SIZES[memory]


def _check_artifact(parameters: Mapping[str, Any]) -> None:
    if not _S3_URI.fullmatch(parameters["codeArtifact"]["uri"]):
        raise ValidationError("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>")


def _check_environment(parameters: Mapping[str, Any]) -> None:
    for name in parameters.get("environmentVariables") or {}:
        if _RESERVED.fullmatch(name):
            raise ValidationError(f"Environment variable key '{name}' is reserved")


def _check_hooks(hooks: Mapping[str, Any]) -> None:
    runtime, build = hooks.get("microvmHooks") or {}, hooks.get("microvmImageHooks") or {}
    runtime_enabled = [name for name in RUNTIME_HOOKS if runtime.get(name) == ENABLED]
    build_enabled = [name for name in BUILD_HOOKS if build.get(name) == ENABLED]
    if runtime_enabled and "ready" not in build_enabled:
        raise ValidationError(
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook "
            "(run, resume, suspend, or terminate) is enabled"
        )
    if (runtime_enabled or build_enabled) and "port" not in hooks:
        raise ValidationError("The hooks port must be specified when any hook is enabled")


def _check_architecture(parameters: Mapping[str, Any]) -> None:
    for configuration in parameters.get("cpuConfigurations") or []:
        if configuration["architecture"] != ARCHITECTURE:
            raise ValidationError(
                f"The architecture {configuration['architecture']} is not available on this machine. "
                f"Available architectures are: [{ARCHITECTURE}]. Leave cpuConfigurations out to take what there is."
            )


def size_of(request: Mapping[str, Any]) -> Size:
    """Return the size of a checked build request."""
    return SIZES[request["resources"][0]["minimumMemoryInMiB"]]


def find_hook(request: Mapping[str, Any], name: str) -> Hook | None:
    """Return an enabled hook of a checked build request, None where it is not enabled."""
    hooks = request.get("hooks") or {}
    build = name in BUILD_HOOKS
    group = hooks.get("microvmImageHooks" if build else "microvmHooks") or {}
    if group.get(name) != ENABLED:
        return None
    default = BUILD_HOOK_DEFAULT_TIMEOUT_S if build else RUNTIME_HOOK_DEFAULT_TIMEOUT_S
    return Hook(name, hooks["port"], group.get(f"{name}TimeoutInSeconds") or default)


def build_log_group(name: str, request: Mapping[str, Any]) -> str:
    """Return the log group of an image: its own, or the default."""
    configured = ((request.get("logging") or {}).get("cloudWatch") or {}).get("logGroup")
    return configured or f"/aws/lambda-microvms/{name}"
