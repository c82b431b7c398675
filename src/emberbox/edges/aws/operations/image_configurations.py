"""What a version of an image is asked to be, in the words of CreateMicrovmImage and UpdateMicrovmImage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from emberbox.control.images.commands import ImageConfiguration
from emberbox.edges.aws.operations.handler import Members, Parameters
from emberbox.edges.aws.operations.log_targets import read_log_target, show_log_target
from emberbox.model.arns import managed_image_arn
from emberbox.model.hooks import BUILD_HOOKS, RUNTIME_HOOKS, HookName, HookSetting, HookSettings
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import ImageName

ENABLED: Final = "ENABLED"
DISABLED: Final = "DISABLED"


def read_configuration(parameters: Parameters, base: ImageName) -> ImageConfiguration:
    """Return what is asked for.

    Args:
        parameters: of the operation.
        base: the managed image that `baseImageArn` names.
    """
    resources = parameters.get("resources")
    return ImageConfiguration(
        base=base,
        build_role=parameters["buildRoleArn"],
        artifact_uri=parameters["codeArtifact"]["uri"],
        base_version=parameters.get("baseImageVersion"),
        memory_mib=resources[0]["minimumMemoryInMiB"] if resources else None,
        egress=tuple(parameters.get("egressNetworkConnectors") or ()),
        description=parameters.get("description"),
        log_target=read_log_target(parameters.get("logging")),
        architectures=_read_architectures(parameters.get("cpuConfigurations")),
        capabilities=_read_capabilities(parameters.get("additionalOsCapabilities")),
        hooks=_read_hooks(parameters.get("hooks")),
        environment=parameters.get("environmentVariables"),
        kms_key=parameters.get("kmsKeyIdentifier"),
    )


def _read_architectures(given: Sequence[Mapping[str, str]] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(one["architecture"] for one in given)


def _read_capabilities(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _read_hooks(given: Parameters | None) -> HookSettings | None:
    if given is None:
        return None
    return HookSettings(
        port=given.get("port"),
        runtime=_read_group(given.get("microvmHooks"), RUNTIME_HOOKS),
        build=_read_group(given.get("microvmImageHooks"), BUILD_HOOKS),
    )


def _read_group(given: Parameters | None, names: Sequence[HookName]) -> dict[HookName, HookSetting] | None:
    if given is None:
        return None
    settings = {name: _read_setting(given.get(name), given.get(_timeout(name))) for name in names}
    return {name: setting for name, setting in settings.items() if setting != HookSetting()}


def _read_setting(state: str | None, timeout_s: int | None) -> HookSetting:
    return HookSetting(None if state is None else state == ENABLED, timeout_s)


def show_request(request: ImageRequest) -> Members:
    """Return a request as the API shows it: as it was asked for, with the defaults."""
    return {
        "description": request.description,
        "logging": show_log_target(request.log_target),
        "egressNetworkConnectors": request.egress,
        "cpuConfigurations": request.architectures and [{"architecture": one} for one in request.architectures],
        "resources": [{"minimumMemoryInMiB": request.memory_mib}],
        "additionalOsCapabilities": request.capabilities,
        "hooks": None if request.hooks is None else _show_hooks(request.hooks),
        "environmentVariables": request.environment,
        "baseImageArn": managed_image_arn(request.region, request.base),
        "baseImageVersion": request.base_version,
        "buildRoleArn": request.build_role,
        "codeArtifact": {"uri": request.artifact_uri},
    }


def _show_hooks(hooks: HookSettings) -> Members:
    return {
        "port": hooks.port,
        "microvmHooks": _show_group(hooks.runtime),
        "microvmImageHooks": _show_group(hooks.build),
    }


def _show_group(group: Mapping[HookName, HookSetting] | None) -> Members | None:
    if group is None:
        return None
    states = {str(name): _show_state(setting.is_enabled) for name, setting in group.items()}
    return states | {_timeout(name): setting.timeout_s for name, setting in group.items()}


def _show_state(is_enabled: bool | None) -> str | None:
    return None if is_enabled is None else ENABLED if is_enabled else DISABLED


def _timeout(name: HookName) -> str:
    return f"{name}TimeoutInSeconds"
