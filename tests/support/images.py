"""Images for tests: zips in S3, builds through the API, and what became of them."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberbox.time_limits import limit_s
from support.aws import Clients
from support.waiting import wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROBE = Path(__file__).resolve().parent / "probe.pl"
BUCKET = "code"
PORTS = [8081, 8082, 8083, 8084, 8085]
"""Ports of the probe application, each open at another kind of address (probe.pl)."""
BUILD_TIMEOUT_S = 400.0
BUILD_HOOK_S, HOOK_S = min(3600, round(limit_s(120))), min(60, round(limit_s(30)))  # up to what AWS allows
BUILD_ROLE = "arn:aws:iam::000000000000:role/build"
SMALLEST = [{"minimumMemoryInMiB": 512}]
FOUR_PROCESSORS = [{"minimumMemoryInMiB": 2048}]
PROBE_DOCKERFILE = """\
FROM emberbox/debian:12
COPY probe.pl /probe.pl
RUN mkdir /data
EXPOSE 8080
CMD ["perl", "/probe.pl"]
"""
PROTOCOLS = Path(__file__).resolve().parent / "protocols.py"
PROTOCOLS_DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    openssl python3-grpcio python3-hypercorn python3-uvicorn python3-websockets
WORKDIR /app
RUN openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=guest -keyout server.key -out server.pem
COPY protocols.py .
EXPOSE 8080
CMD ["python3", "protocols.py"]
"""
ALL_HOOKS: dict[str, Any] = {
    "port": 9000,
    "microvmImageHooks": {
        "ready": "ENABLED",
        "readyTimeoutInSeconds": BUILD_HOOK_S,
        "validate": "ENABLED",
        "validateTimeoutInSeconds": BUILD_HOOK_S,
    },
    "microvmHooks": {
        name: value
        for hook in ("run", "suspend", "resume", "terminate")
        for name, value in ((hook, "ENABLED"), (f"{hook}TimeoutInSeconds", HOOK_S))
    },
}
READY_HOOK: dict[str, Any] = {
    "port": 9000,
    "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": BUILD_HOOK_S},
}


def make_zip(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def example_files(name: str) -> dict[str, str | bytes]:
    """Return the files of a shipped example."""
    return _files(EXAMPLES / name)


def randomness_files() -> dict[str, str | bytes]:
    """Return the files of an application in which several languages draw random numbers."""
    return _files(Path(__file__).resolve().parent / "randomness")


def _files(directory: Path) -> dict[str, str | bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def probe_files(dockerfile: str = PROBE_DOCKERFILE) -> dict[str, str | bytes]:
    """Return the files of the probe application: a shell and hooks over HTTP (probe.pl)."""
    return {"Dockerfile": dockerfile, "probe.pl": PROBE.read_bytes()}


def protocols_files() -> dict[str, str | bytes]:
    """Return the files of an application that speaks every protocol (protocols.py)."""
    return {"Dockerfile": PROTOCOLS_DOCKERFILE, "protocols.py": PROTOCOLS.read_bytes()}


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Image:
    """A created image."""

    name: str
    arn: str


class ImageMaker:
    """Makes images on one server."""

    def __init__(self, clients: Clients, region: str) -> None:
        self._clients = clients
        if BUCKET not in {bucket["Name"] for bucket in clients.s3.list_buckets()["Buckets"]}:
            clients.s3.create_bucket(Bucket=BUCKET)
        self.base_arn = f"arn:aws:lambda:{region}:aws:microvm-image:debian12-1"

    def upload(self, content: bytes) -> str:
        """Store an artifact and return its URI."""
        key = f"{uuid.uuid4().hex}.zip"
        self._clients.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def request(self, name: str, artifact: Mapping[str, str | bytes] | bytes | str, **more: Any) -> dict[str, Any]:
        """Return the parameters of CreateMicrovmImage; the artifact is files, a zip, or an URI."""
        if isinstance(artifact, str):
            uri = artifact
        else:
            uri = self.upload(artifact if isinstance(artifact, bytes) else make_zip(artifact))
        return {
            "name": unique(name),
            "baseImageArn": self.base_arn,
            "buildRoleArn": BUILD_ROLE,
            "codeArtifact": {"uri": uri},
            "resources": SMALLEST,
            **more,
        }

    def start(self, name: str, artifact: Mapping[str, str | bytes] | bytes | str, **more: Any) -> Image:
        """Begin to build an image."""
        answer = self._clients.microvms.create_microvm_image(**self.request(name, artifact, **more))
        assert answer["state"] == "CREATING"
        return Image(answer["name"], answer["imageArn"])

    def wait(self, image: Image, timeout_s: float = BUILD_TIMEOUT_S) -> str:
        """Wait until a build has ended and return the image's state."""

        def settled() -> str | None:
            state = self._clients.microvms.get_microvm_image(imageIdentifier=image.arn)["state"]
            return None if state == "CREATING" else str(state)

        return wait_for(f"the build of {image.name} has ended", settled, timeout_s)

    def wait_created(self, image: Image) -> Image:
        """Wait for a build that must succeed."""
        state = self.wait(image)
        assert state == "CREATED", f"{self.reason(image)}\n" + "\n".join(self.log(image, "FAILED"))
        return image

    def build(self, name: str, artifact: Mapping[str, str | bytes] | bytes | str, **more: Any) -> Image:
        """Build an image that must succeed."""
        return self.wait_created(self.start(name, artifact, **more))

    def find_build(self, image: Image) -> dict[str, Any]:
        """Return the one build of an image."""
        where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
        (found,) = self._clients.microvms.list_microvm_image_builds(**where)["items"]
        build: dict[str, Any] = self._clients.microvms.get_microvm_image_build(**where, buildId=found["buildId"])
        return build

    def reason(self, image: Image) -> str | None:
        """Return why the build failed."""
        return self.find_build(image).get("stateReason")

    def log(self, image: Image, until: str) -> list[str]:
        """Return the build log, once a line of it has `until`: lines are stored with some delay."""

        def read() -> list[str] | None:
            try:
                pages = self._clients.logs.get_paginator("filter_log_events")
                group = f"/aws/lambda-microvms/{image.name}"
                events = [event for page in pages.paginate(logGroupName=group) for event in page["events"]]
            except self._clients.logs.exceptions.ResourceNotFoundException:
                return None
            lines = [event["message"] for event in events]
            return lines if any(until in line for line in lines) else None

        return wait_for(f"the log of {image.name} has {until!r}", read, 20)

    def delete(self, image: Image) -> None:
        """Delete an image and wait until it is gone."""
        self._clients.microvms.delete_microvm_image(imageIdentifier=image.arn)

        def is_gone() -> bool:
            try:
                self._clients.microvms.get_microvm_image(imageIdentifier=image.arn)
            except self._clients.microvms.exceptions.ResourceNotFoundException:
                return True
            return False

        wait_for(f"{image.name} is deleted", is_gone)
