"""vmnest: sandboxes by a command, with an agent of its own in the guest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "vmnest"
# Its guest's own begins with python:3.12-slim and fetches packages: from registries that a closed network has not.
DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/agentd
COPY . ./
RUN pip install --break-system-packages --no-index --find-links wheels fastapi uvicorn pydantic
ENV AGENTD_PORT=8080 AGENTD_HOOK_PORT=9000 PYTHONUNBUFFERED=1
EXPOSE 8080 9000
CMD ["python3", "-m", "agentd.serve"]
"""


@pytest.fixture(scope="module")
def programs(desk: Desk) -> Path:
    return install_python(read_clients()[CLIENT])


@pytest.fixture(scope="module")
def guest(desk: Desk, programs: Path) -> Path:
    """The guest that it brings along, with a base and packages that need no registry."""
    (bundled,) = programs.parent.glob("lib/python*/site-packages/agent_sandbox/_bundled_guest")
    place = desk.directory / "guest"
    shutil.copytree(bundled, place)
    (place / "Dockerfile").write_text(DOCKERFILE)
    wanted = ["--only-binary=:all:", "--python-version=3.11", "--dest", str(place / "wheels")]
    download = [sys.executable, "-m", "pip", "download", "--quiet", *wanted, "fastapi", "uvicorn", "pydantic"]
    subprocess.run(download, check=True, timeout=600, capture_output=True)
    return place


def test_infrastructure_is_provisioned_and_sandboxes_are_used(desk: Desk, programs: Path, guest: Path) -> None:
    """Infrastructure is provisioned, and sandboxes are used.

    `vmnest infra init`, `preview`, `up` (bucket, role, image), `output`; `create`, `exec`, `stop`, `start`, `ls`, `ps`,
    `inspect`, `metrics`, `image ls`, `run`, `rm`; `infra destroy`.
    """
    vmnest = programs / "vmnest"
    desk.run(vmnest, "infra", "init")
    desk.run(vmnest, "infra", "preview")
    desk.run(vmnest, "infra", "up", timeout_s=1500)
    outputs = json.loads(desk.run(vmnest, "infra", "output"))
    image = next(value for value in _texts(outputs) if ":microvm-image:" in value)
    assert image in desk.run(vmnest, "image", "ls", more={"COLUMNS": "300"})
    desk.run(vmnest, "create", "one", "--image", image)
    assert "6" in desk.run(
        vmnest, "exec", "one", "--", "python3", "-c", "open('/tmp/kept', 'w').write('x'); print(2*3)"
    )
    desk.run(vmnest, "stop", "one")
    desk.run(vmnest, "start", "one")
    assert "x" in desk.run(vmnest, "exec", "one", "--", "cat", "/tmp/kept")
    for command in ("ls", "ps", "inspect", "metrics"):
        desk.run(vmnest, command, *([] if command == "ls" else ["one"]))
    assert "42" in desk.run(vmnest, "run", image, "--", "echo", "42")
    desk.run(vmnest, "rm", "one")
    desk.run(vmnest, "infra", "destroy")


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [value] if isinstance(value, str) else []
