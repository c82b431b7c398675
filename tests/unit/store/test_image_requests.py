"""Image requests in the database: every form that the service takes is read and written back as it was."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from emberbox.model.arns import managed_connector_arn, managed_image_arn
from emberbox.model.hooks import HookName, HookSetting, HookSettings
from emberbox.model.image_requests import ImageRequest
from emberbox.model.launch_requests import LogTarget
from emberbox.model.sizes import SnapshotSizes
from emberbox.spec.models import MICROVMS, load_operation
from emberbox.store.image_requests import read_request, read_sizes, write_request, write_sizes

INTERNET = managed_connector_arn("us-east-1", "INTERNET_EGRESS")
ROLE = "arn:aws:iam::123456789012:role/path/any"
LEAST: dict[str, Any] = {
    "description": None,
    "logging": None,
    "egressNetworkConnectors": [INTERNET],
    "cpuConfigurations": None,
    "resources": [{"minimumMemoryInMiB": 2048}],
    "additionalOsCapabilities": None,
    "hooks": None,
    "environmentVariables": None,
    "baseImageArn": managed_image_arn("us-east-1", "debian12-1"),
    "baseImageVersion": "1.0",
    "buildRoleArn": ROLE,
    "codeArtifact": {"uri": "s3://bucket/key"},
}
"""What is stored of a request that states what it must, and in this order."""

RUNTIME, BUILD = ("run", "resume", "suspend", "terminate"), ("ready", "validate")


def hook_forms(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return every form of one hook alone, and all hooks with everything."""
    each = [
        {name: state} if seconds is None else {name: state, f"{name}TimeoutInSeconds": seconds}
        for name, state, seconds in itertools.product(names, ("ENABLED", "DISABLED"), (None, 1, 60))
    ]
    alone = [{f"{name}TimeoutInSeconds": 7} for name in names]
    whole: dict[str, Any] = {}
    for name in names:
        whole |= {name: "ENABLED", f"{name}TimeoutInSeconds": 60}
    return [{}, *each, *alone, whole, dict.fromkeys(names, "DISABLED")]


HOOKS: list[dict[str, Any]] = [
    {},
    {"port": 1},
    *({"port": 65535, "microvmHooks": form} for form in hook_forms(RUNTIME)),
    *({"microvmImageHooks": form} for form in hook_forms(BUILD)),
    {"port": 9000, "microvmHooks": hook_forms(RUNTIME)[-2], "microvmImageHooks": hook_forms(BUILD)[-2]},
]
FORMS: dict[str, list[Any]] = {
    "description": ["", "ünïcode"],
    "logging": [
        {"disabled": {}},
        {"cloudWatch": {}},
        {"cloudWatch": {"logGroup": "/own"}},
        {"cloudWatch": {"logStream": "one"}},
        {"cloudWatch": {"logGroup": "/own", "logStream": "one"}},
    ],
    "egressNetworkConnectors": [["arn:aws:lambda:us-east-1:123456789012:network-connector:nc-1:3"]],
    "cpuConfigurations": [[], [{"architecture": "X86_64"}], [{"architecture": "X86_64"}] * 2],
    "resources": [[{"minimumMemoryInMiB": memory}] for memory in (512, 1024, 4096, 8192)],
    "additionalOsCapabilities": [[], ["ALL"], ["ALL", "ALL"]],
    "hooks": HOOKS,
    "environmentVariables": [{}, {"B": "2", "A": "", "ü": "x"}],
    "baseImageArn": [managed_image_arn("eu-west-9", "al2023-1")],
    "baseImageVersion": ["1"],
    "buildRoleArn": ["arn:aws-cn:iam::999999999999:role/x"],
    "codeArtifact": [{"uri": "s3://b/k?v=1\n"}],
}


@pytest.mark.parametrize(
    "stored", [LEAST, *(LEAST | {name: value} for name, values in FORMS.items() for value in values)]
)
def test_a_request_is_written_as_it_was_read(stored: dict[str, Any]) -> None:
    written = write_request(read_request(stored))
    assert json.dumps(written) == json.dumps(stored)
    assert read_request(written) == read_request(stored)


def test_every_member_of_the_service_model_that_is_kept_has_its_forms_here() -> None:
    shape = load_operation(MICROVMS, "CreateMicrovmImage").input_shape
    assert shape is not None
    assert set(shape.members) == set(LEAST) | {"name", "tags", "clientToken", "kmsKeyIdentifier"}
    assert set(FORMS) == set(LEAST)
    members = {name: set(member.members) for name, member in shape.members.items() if member.type_name == "structure"}
    assert members == {
        "logging": {"disabled", "cloudWatch"},
        "hooks": {"port", "microvmHooks", "microvmImageHooks"},
        "codeArtifact": {"uri"},
    }
    assert set(shape.members["cpuConfigurations"].member.members) == {"architecture"}
    assert set(shape.members["resources"].member.members) == {"minimumMemoryInMiB"}
    assert shape.members["resources"].metadata["max"] == 1
    hooks = shape.members["hooks"].members
    assert set(hooks["microvmHooks"].members) == set(hook_forms(RUNTIME)[-2])
    assert set(hooks["microvmImageHooks"].members) == set(hook_forms(BUILD)[-2])


def test_a_request_says_what_it_is() -> None:
    stored = LEAST | {name: values[-1] for name, values in FORMS.items()}
    stored["hooks"] = {
        "port": 9000,
        "microvmHooks": {"run": "ENABLED", "resume": "DISABLED", "suspendTimeoutInSeconds": 5},
        "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 7},
    }
    assert read_request(stored) == ImageRequest(
        region="eu-west-9",
        base="al2023-1",
        base_version="1",
        build_role="arn:aws-cn:iam::999999999999:role/x",
        artifact_uri="s3://b/k?v=1\n",
        memory_mib=8192,
        egress=("arn:aws:lambda:us-east-1:123456789012:network-connector:nc-1:3",),
        description="ünïcode",
        log_target=LogTarget(group="/own", stream="one"),
        architectures=("X86_64", "X86_64"),
        capabilities=("ALL", "ALL"),
        hooks=HookSettings(
            port=9000,
            runtime={
                HookName.RUN: HookSetting(is_enabled=True),
                HookName.RESUME: HookSetting(is_enabled=False),
                HookName.SUSPEND: HookSetting(timeout_s=5),
            },
            build={HookName.READY: HookSetting(is_enabled=True, timeout_s=7)},
        ),
        environment={"B": "2", "A": "", "ü": "x"},
    )


def test_what_is_left_out_is_not_stated() -> None:
    stated = {name: value for name, value in LEAST.items() if value is not None}
    assert read_request(stated) == read_request(LEAST)


def test_sizes_are_written_as_they_were_read() -> None:
    shape = load_operation(MICROVMS, "GetMicrovmImageBuild").output_shape
    assert shape is not None
    stored = {"memorySnapshotSizeInBytes": 1, "codeInstallSizeInBytes": 5_000_000_000, "diskSnapshotSizeInBytes": 3}
    assert set(shape.members["snapshotBuild"].members) == set(stored)
    assert read_sizes(stored) == SnapshotSizes(memory=1, code=5_000_000_000, disk=3)
    assert json.dumps(write_sizes(read_sizes(stored))) == json.dumps(stored)
    assert write_sizes(read_sizes(None)) is None
