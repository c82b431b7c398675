"""Builds that must fail: each with the documented reason, in seconds, and with nothing left behind.

All are begun together, so that the slow ones overlap; each test waits for its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from dataclasses import dataclass, field
from typing import Any

import pytest

from support import host
from support.images import BUCKET, Image, ImageMaker, probe_files
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

DEADLINE_S = 240.0
"""All of them together, on a slow machine; nobody waits for minutes where there is one."""

BUILDS_AT_ONCE = 8
BASE = "FROM emberbox/debian:12\n"


def hooks(ready_timeout_s: int) -> dict[str, Any]:
    return {"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": ready_timeout_s}}


def escaping_zip() -> bytes:
    """Return a zip with a file outside its root."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Dockerfile", BASE + 'CMD ["true"]\n')
        archive.writestr("../../outside", "x")
    return buffer.getvalue()


def linked_zip(target: str) -> bytes:
    """Return a zip with a symbolic link, which the Dockerfile copies."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Dockerfile", BASE + 'COPY link /x\nCMD ["true"]\n')
        entry = zipfile.ZipInfo("link")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, target)
    return buffer.getvalue()


@dataclass(frozen=True)
class Bad:
    """A build that fails: the artifact (files, a zip or an URI), the reason, and what its log says."""

    artifact: dict[str, str | bytes] | bytes | str
    reason: str
    log: str
    more: dict[str, Any] = field(default_factory=dict)


READY_500 = "Ready hook check failed: the application returned a server error (HTTP 5xx) response"
READY_404 = "Ready hook check failed: the application returned a client error (HTTP 4xx) response"
VALIDATE_500 = "Validate hook check failed: the application returned a server error (HTTP 5xx) response"
CASES = {
    "no-such-key": Bad(f"s3://{BUCKET}/missing.zip", "S3_NO_SUCH_KEY", "missing.zip"),
    "no-such-bucket": Bad("s3://no-such-bucket-here/a.zip", "S3_NO_SUCH_BUCKET", "no-such-bucket-here"),
    "not-a-zip": Bad(b"this is no zip", "ARCHIVE_INVALID", "zip"),
    "no-dockerfile": Bad({"app.py": "print()"}, "ARCHIVE_DOCKERFILE_NOT_FOUND", "Dockerfile at the zip's root"),
    "dockerfile-below-the-root": Bad({"app/Dockerfile": BASE}, "ARCHIVE_DOCKERFILE_NOT_FOUND", "root"),
    "escaping-zip": Bad(escaping_zip(), "ARCHIVE_INVALID", "outside"),
    "link-out-of-the-zip": Bad(linked_zip("../../etc/shadow"), "ARCHIVE_INVALID", "link"),
    "link-to-a-path-of-the-image": Bad(linked_zip("/etc/shadow"), "CONTAINER_BUILD_FAILED", "lines above"),
    "failing-step": Bad(
        {"Dockerfile": BASE + "RUN echo before-it-failed && exit 7\n"}, "CONTAINER_BUILD_FAILED", "lines above"
    ),
    "large-step": Bad(
        {"Dockerfile": BASE + "RUN fallocate -l 300M /big\nRUN false\n"}, "CONTAINER_BUILD_FAILED", "lines above"
    ),
    "bad-syntax": Bad({"Dockerfile": BASE + "NONSENSE here\n"}, "CONTAINER_BUILD_FAILED", "lines above"),
    "nothing-to-run": Bad({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}, "CONTAINER_BUILD_FAILED", "CMD"),
    "unknown-user": Bad(
        {"Dockerfile": BASE + 'USER nobody-here\nCMD ["true"]\n'}, "CONTAINER_BUILD_FAILED", "nobody-here"
    ),
    "missing-program": Bad(
        {"Dockerfile": BASE + 'CMD ["/no/such/program"]\n'}, "CONTAINER_BUILD_FAILED", "/no/such/program"
    ),
    "exits-at-once": Bad(
        probe_files(),
        "Container Stopped with Exit Code: 5",
        "its output is in the log",
        {"environmentVariables": {"EXIT_AT_ONCE": "5"}, "hooks": hooks(120)},
    ),
    "never-ready": Bad(
        probe_files(),
        "Ready hook invocation timed out after PT3S",
        "raise the hook's timeout",
        {"environmentVariables": {"HOOK_READY": "503"}, "hooks": hooks(3)},
    ),
    "hook-on-a-closed-port": Bad(
        probe_files(),
        "Ready hook invocation timed out after PT3S",
        "check hooks.port",
        {"hooks": hooks(3) | {"port": 9999}},
    ),
    "ready-500": Bad(
        probe_files(), READY_500, "answered 500", {"environmentVariables": {"HOOK_READY": "500"}, "hooks": hooks(120)}
    ),
    "ready-404": Bad(
        probe_files(), READY_404, "answered 404", {"environmentVariables": {"HOOK_READY": "404"}, "hooks": hooks(120)}
    ),
    "validate-500": Bad(
        probe_files(),
        VALIDATE_500,
        "answered 500",
        {
            "environmentVariables": {"HOOK_VALIDATE": "500"},
            "hooks": {
                "port": 9000,
                "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 120, "validate": "ENABLED"},
            },
        },
    ),
}


@pytest.fixture(scope="module")
def bad_builds(images: ImageMaker, probe_image: Image, flask_image: Image, express_image: Image) -> dict[str, Image]:
    """All failing builds, begun after the others: an account may have ten at a time."""
    begun: list[Image] = []
    for name, case in CASES.items():
        if len(begun) >= BUILDS_AT_ONCE:
            images.wait(begun[-BUILDS_AT_ONCE], DEADLINE_S)
        begun.append(images.start(f"bad-{name}", case.artifact, **case.more))
    return dict(zip(CASES, begun, strict=True))


@pytest.mark.parametrize("name", list(CASES))
def test_a_bad_build_fails_with_the_documented_reason(
    images: ImageMaker, bad_builds: dict[str, Image], name: str
) -> None:
    """The build's stateReason is AWS's, and the last line of the log says what to do."""
    image, case = bad_builds[name], CASES[name]
    assert images.wait(image, DEADLINE_S) == "CREATE_FAILED"
    build = images.find_build(image)
    assert (build["buildState"], build.get("stateReason")) == ("FAILED", case.reason)
    lines = images.log(image, "FAILED")
    (last,) = [line for line in lines if line.startswith("FAILED")]
    assert last.startswith(f"FAILED: {case.reason}")
    assert case.log in last
    if name == "failing-step":
        assert "before-it-failed" in lines


def test_a_failed_image_shows_its_failed_version(
    images: ImageMaker, bad_builds: dict[str, Image], clients: Any
) -> None:
    """The image names the failed version, the version is FAILED and INACTIVE, and nothing can be launched."""
    image = bad_builds["no-dockerfile"]
    images.wait(image, DEADLINE_S)
    described = clients.microvms.get_microvm_image(imageIdentifier=image.arn)
    assert (described["latestFailedImageVersion"], described.get("latestActiveImageVersion")) == ("1.0", None)
    version = clients.microvms.get_microvm_image_version(imageIdentifier=image.arn, imageVersion="1.0")
    assert (version["state"], version["status"]) == ("FAILED", "INACTIVE")
    with pytest.raises(clients.microvms.exceptions.ResourceNotFoundException, match="No active version found"):
        clients.microvms.run_microvm(imageIdentifier=image.arn)


def test_failed_builds_leave_nothing(images: ImageMaker, bad_builds: dict[str, Image], server: Server) -> None:
    """After them there is no scratch directory, snapshot, VMM, mount or container of theirs."""
    for image in bad_builds.values():
        images.wait(image, DEADLINE_S)

    def left() -> list[str]:
        builds = [str(path) for path in (server.home / "builds").iterdir()]
        tools = [row for row in host.processes_of(server.home) if "buildah" in row]
        return builds + tools + host.processes_of(server.home / "builds")

    with contextlib.suppress(AssertionError):
        wait_for("scratch files and processes are gone", lambda: not left(), 30)
    assert left() == []
    assert not host.mounts_below(server.home / "builds")
    for path in (server.home / "images").glob("*/*"):
        assert (path / "snapshot.json").exists(), f"half a snapshot: {path}"
    containers = host.run("buildah", *container_store(server), "containers", "--quiet")
    assert containers.split() == []
    layers = host.run("buildah", *container_store(server), "images", "--all", "--quiet").split()
    names = host.run("buildah", *container_store(server), "images", "--quiet").split()
    assert sorted(layers) == sorted(names), "layers of builds"
    shown = host.run("buildah", *container_store(server), "images", "--format", "{{.Name}}")
    assert "emberbox-build" not in shown


def container_store(server: Server) -> list[str]:
    """Return buildah's options for the server's own store."""
    store = server.home / "containers"
    driver = "overlay" if os.geteuid() == 0 else "vfs"
    return ["--root", str(store / "storage"), "--runroot", str(store / "run"), "--storage-driver", driver]


def test_the_name_of_a_failed_image_is_free_after_its_deletion(images: ImageMaker, clients: Any) -> None:
    """A failed image is deleted like any other, and its name can be used again."""
    request = images.request("again", {"app.py": ""})
    for _ in range(2):
        answer = clients.microvms.create_microvm_image(**request)
        image = Image(answer["name"], answer["imageArn"])
        assert images.wait(image, 60) == "CREATE_FAILED"
        images.delete(image)
        request["clientToken"] = f"token-{id(answer)}"
