"""Ray's sandbox runtime, its host for the HTTP API, and its actors over microVMs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.experimental.sandbox import (
    SandboxCreationError,
    SandboxError,
    SandboxExecError,
    SandboxNotFoundError,
    SandboxStatus,
    SandboxTimeoutError,
)
from ray.experimental.sandbox.http.host import SandboxHost

from emberbox_sdk import Sandbox
from emberbox_sdk.integrations.ray import EmberboxSandboxBackend, EmberboxSandboxRuntime

CREATE = {"network": "public", "timeout_seconds": 600}


def ids() -> set[str]:
    return {sandbox.id for sandbox in Sandbox.list()}


@pytest.fixture(scope="module")
def runtime() -> Iterator[EmberboxSandboxRuntime]:
    before = ids()
    runtime = EmberboxSandboxRuntime()
    yield runtime
    runtime.close()
    assert ids() == before


@pytest.fixture(scope="module")
def sandbox_id(runtime: EmberboxSandboxRuntime) -> str:
    found: str = runtime.create("default", env={"A": "1", "B": "1"}, workdir="/work/d", ttl_seconds=3000, **CREATE)
    assert runtime.get_status(found) is SandboxStatus.RUNNING
    return found


def test_commands_have_what_the_configuration_says(runtime: EmberboxSandboxRuntime, sandbox_id: str) -> None:
    ran = runtime.exec(sandbox_id, "echo $A$B; pwd; [[ -n $BASH ]] && echo bash; echo err >&2; exit 4", env={"B": "2"})
    assert (ran.exit_code, ran.stdout, ran.stderr) == (4, "12\n/work/d\nbash\n", "err\n")
    assert ran.duration_ms > 0
    assert runtime.exec(sandbox_id, ["echo", "$A"], cwd="/").stdout == "$A\n"
    assert runtime.exec(sandbox_id, "id -un", user="www-data").stdout == "www-data\n"
    assert asyncio.run(runtime.exec_async(sandbox_id, "echo $A")).stdout == "1\n"


def test_a_command_that_takes_too_long_is_ended(runtime: EmberboxSandboxRuntime, sandbox_id: str) -> None:
    with pytest.raises(SandboxTimeoutError, match="longer than 2 s"):
        runtime.exec(sandbox_id, "exec sleep 4321", timeout=2)
    assert runtime.exec(sandbox_id, "grep -q '[4]321' /proc/[0-9]*/cmdline").exit_code


def test_output_has_a_bound_and_says_so(runtime: EmberboxSandboxRuntime, sandbox_id: str) -> None:
    ran = runtime.exec(sandbox_id, "head -c 12000000 /dev/zero | tr '\\0' x; exit 5")
    assert (ran.exit_code, len(ran.stdout)) == (5, 10 << 20)
    assert "was cut after" in ran.stderr


def test_files_are_bytes_and_can_be_appended_to(
    runtime: EmberboxSandboxRuntime, sandbox_id: str, tmp_path: Any
) -> None:
    data = bytes(range(256)) * 5000
    runtime.write_file(sandbox_id, "new/a.bin", data)
    runtime.write_file(sandbox_id, "/work/d/new/a.bin", "text", append=True)
    assert runtime.read_file(sandbox_id, "new/a.bin") == data + b"text"
    (tmp_path / "local").write_bytes(data)
    runtime.upload_file(sandbox_id, str(tmp_path / "local"), "/work/up")
    runtime.download_file(sandbox_id, "/work/up", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    with pytest.raises(SandboxError, match="No such file"):
        runtime.read_file(sandbox_id, "/none")
    with pytest.raises(SandboxError, match="Is a directory"):
        runtime.write_file(sandbox_id, "/etc", "x")


def test_a_sandbox_goes_on_after_a_suspend(runtime: EmberboxSandboxRuntime, sandbox_id: str) -> None:
    runtime.write_file(sandbox_id, "kept", "from before")
    runtime.exec(sandbox_id, "setsid sleep 7531 </dev/null >/dev/null 2>&1 &")
    sandbox = runtime.microvms.sandbox(sandbox_id)
    sandbox.suspend()
    assert runtime.get_status(sandbox_id) is SandboxStatus.PENDING
    with pytest.raises(SandboxExecError, match=r"resume\(\)"):
        runtime.exec(sandbox_id, "true")
    sandbox.resume()
    assert runtime.exec(sandbox_id, "cat kept; grep -q '[7]531' /proc/[0-9]*/cmdline").stdout == "from before"
    another = EmberboxSandboxRuntime()  # as in another worker, which knows the id alone
    assert another.read_file(sandbox_id, "/work/d/kept") == b"from before"
    another.close()
    assert runtime.get_status(sandbox_id) is SandboxStatus.RUNNING


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "network='none' has no network connector"),
        ({**CREATE, "cpu": 1}, "cpu is not for a microVM to choose"),
        ({**CREATE, "memory": "1Gi"}, "take an image of the size"),
        ({**CREATE, "dns": ["192.0.2.1"]}, "dns is not"),
        ({**CREATE, "capabilities": []}, "capabilities is not"),
    ],
)
def test_what_a_microvm_does_not_have_is_refused(
    runtime: EmberboxSandboxRuntime, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(SandboxCreationError, match=told):
        runtime.create("default", **asked)


def test_a_network_mode_is_the_connector_that_it_has() -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:network-connector:nobody-made-it"
    with EmberboxSandboxBackend({"none": [arn]}) as backend:
        isolated = EmberboxSandboxRuntime(backend)
        with pytest.raises(SandboxCreationError, match="nobody-made-it"):
            isolated.create("default")
        with pytest.raises(SandboxCreationError, match="'public' has no network connector"):
            isolated.create("default", network="public")


def test_an_image_that_is_not_there_is_refused(runtime: EmberboxSandboxRuntime) -> None:
    with pytest.raises(SandboxCreationError, match="there is no image nobody-built-it"):
        runtime.create("nobody-built-it", **CREATE)


def test_what_was_deleted_is_gone(runtime: EmberboxSandboxRuntime) -> None:
    sandbox_id = runtime.create("default", **CREATE)
    runtime.delete(sandbox_id)
    assert runtime.get_status(sandbox_id) is SandboxStatus.TERMINATED
    with pytest.raises(SandboxNotFoundError):
        runtime.exec(sandbox_id, "true")
    runtime.delete(sandbox_id)


def test_rays_own_host_and_an_actor_have_microvms_in_a_cluster() -> None:
    before = ids()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
    try:
        host = ray.remote(SandboxHost).remote(
            "one", {"image": "default", "network": "public"}, {}, runtime_factory=EmberboxSandboxRuntime
        )
        ray.get(host.boot.remote(), timeout=600)
        assert ray.get(host.describe.remote(), timeout=60)["status"] == "running"
        started = ray.get(host.start_exec.remote("echo out; echo err >&2; exit 3"), timeout=120)
        ran = ray.get(host.get_exec.remote(started["exec_id"], 100.0), timeout=120)
        assert (ran["status"], ran["exit_code"], ran["stdout"], ran["stderr"]) == ("completed", 3, "out\n", "err\n")
        assert ray.get(host.write_file.remote("/work/x", b"\xff"), timeout=120) == {"ok": True}
        assert ray.get(host.read_file.remote("/work/x"), timeout=120) == {"ok": True, "content": b"\xff"}
        assert ray.get(host.read_file.remote("/none"), timeout=120)["error_code"] == "file_not_found"
        (made,) = ids() - before
        ray.get(host.terminate.remote(), timeout=120)
        assert made not in ids()
    finally:
        ray.shutdown()
