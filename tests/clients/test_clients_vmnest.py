"""vmnest: sandboxes by a command, with an agent of its own in the guest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.agent_sandbox import copy_guest
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "vmnest"


@pytest.fixture(scope="module")
def programs(desk: Desk) -> Path:
    return install_python(read_clients()[CLIENT])


@pytest.fixture(scope="module")
def guest(desk: Desk, programs: Path) -> Path:
    place = desk.directory / "guest"
    copy_guest(programs, place)
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
