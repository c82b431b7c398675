"""Image requests and the sizes of snapshots as columns have them: JSON in the names of the service model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from emberbox.model.arns import managed_image_arn
from emberbox.model.hooks import BUILD_HOOKS, RUNTIME_HOOKS, HookName, HookSetting, HookSettings
from emberbox.model.image_requests import ImageRequest
from emberbox.model.sizes import SnapshotSizes
from emberbox.store.launch_requests import read_log_target, write_log_target

Json = dict[str, Any]
"""Any: JSON; each member has a type of its own."""

_STATES: Final = {True: "ENABLED", False: "DISABLED", None: None}


def read_request(stored: Mapping[str, Any]) -> ImageRequest:  # Any: see Json
    """Return what the column `image_versions.request` says."""
    base = stored["baseImageArn"].split(":")
    return ImageRequest(
        region=base[3],
        base=base[-1],
        base_version=stored["baseImageVersion"],
        build_role=stored["buildRoleArn"],
        artifact_uri=stored["codeArtifact"]["uri"],
        memory_mib=stored["resources"][0]["minimumMemoryInMiB"],
        egress=tuple(stored.get("egressNetworkConnectors") or ()),
        description=stored.get("description"),
        log_target=read_log_target(stored.get("logging")),
        architectures=_read_architectures(stored.get("cpuConfigurations")),
        capabilities=_tuple(stored.get("additionalOsCapabilities")),
        hooks=_read_hooks(stored.get("hooks")),
        environment=stored.get("environmentVariables"),
        engine=stored.get("engine", ""),
    )


def write_request(request: ImageRequest) -> Json:
    """Return what the column says of a request."""
    return {
        "description": request.description,
        "logging": write_log_target(request.log_target),
        "egressNetworkConnectors": list(request.egress),
        "cpuConfigurations": _write_architectures(request.architectures),
        "resources": [{"minimumMemoryInMiB": request.memory_mib}],
        "additionalOsCapabilities": None if request.capabilities is None else list(request.capabilities),
        "hooks": None if request.hooks is None else _write_hooks(request.hooks),
        "environmentVariables": None if request.environment is None else dict(request.environment),
        "baseImageArn": managed_image_arn(request.region, request.base),
        "baseImageVersion": request.base_version,
        "buildRoleArn": request.build_role,
        "codeArtifact": {"uri": request.artifact_uri},
        **({"engine": request.engine} if request.engine else {}),
    }


def read_sizes(stored: Mapping[str, int] | None) -> SnapshotSizes | None:
    """Return what the column `builds.sizes` says."""
    if stored is None:
        return None
    return SnapshotSizes(
        memory=stored["memorySnapshotSizeInBytes"],
        code=stored["codeInstallSizeInBytes"],
        disk=stored["diskSnapshotSizeInBytes"],
    )


def write_sizes(sizes: SnapshotSizes | None) -> dict[str, int] | None:
    """Return what the column says of sizes."""
    if sizes is None:
        return None
    return {
        "memorySnapshotSizeInBytes": sizes.memory,
        "codeInstallSizeInBytes": sizes.code,
        "diskSnapshotSizeInBytes": sizes.disk,
    }


def _tuple(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)


def _read_architectures(stored: list[Mapping[str, str]] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(one["architecture"] for one in stored)


def _write_architectures(architectures: Sequence[str] | None) -> list[dict[str, str]] | None:
    return None if architectures is None else [{"architecture": one} for one in architectures]


def _read_hooks(stored: Json | None) -> HookSettings | None:
    if stored is None:
        return None
    return HookSettings(
        port=stored.get("port"),
        runtime=_read_group(stored.get("microvmHooks"), RUNTIME_HOOKS),
        build=_read_group(stored.get("microvmImageHooks"), BUILD_HOOKS),
    )


def _write_hooks(hooks: HookSettings) -> Json:
    return _without_none(
        {
            "port": hooks.port,
            "microvmHooks": _write_group(hooks.runtime),
            "microvmImageHooks": _write_group(hooks.build),
        }
    )


def _read_group(stored: Json | None, names: Sequence[HookName]) -> dict[HookName, HookSetting] | None:
    if stored is None:
        return None
    settings = {name: _read_setting(stored.get(name), stored.get(_timeout(name))) for name in names}
    return {name: setting for name, setting in settings.items() if setting != HookSetting()}


def _read_setting(state: str | None, timeout_s: int | None) -> HookSetting:
    return HookSetting(None if state is None else state == "ENABLED", timeout_s)


def _write_group(group: Mapping[HookName, HookSetting] | None) -> Json | None:
    if group is None:
        return None
    written: Json = {}
    for name, setting in group.items():
        written |= {str(name): _STATES[setting.is_enabled], _timeout(name): setting.timeout_s}
    return _without_none(written)


def _timeout(name: HookName) -> str:
    return f"{name}TimeoutInSeconds"


def _without_none(written: Json) -> Json:
    return {name: value for name, value in written.items() if value is not None}
