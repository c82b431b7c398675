"""microvm-ctl: the command `mvm`, with boto3 and requests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.images import Image
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "microvm-ctl"
DOCKERFILE = """\
FROM public.ecr.aws/lambda/microvms:al2023-minimal
RUN dnf install -y python3
COPY . /app
WORKDIR /app
EXPOSE 8080
CMD ["python3", "app.py"]
"""
APP = """\
from microvm_hooks import HookApp

app, count = HookApp(), 0

@app.on_ready
def ready(ctx):
    return True

@app.route("POST", "/execute")
def execute(body, headers):
    global count
    count += 1
    return 200, {"count": count, "said": body["say"]}

app.serve(port=8080)
"""


@pytest.fixture(scope="module")
def mvm(desk: Desk) -> Path:
    return install_python(read_clients()[CLIENT]) / "mvm"


@pytest.fixture(scope="module")
def roles(desk: Desk, mvm: Path) -> dict[str, str]:
    """What `mvm bootstrap` tells the user to export."""
    told = desk.run(mvm, "bootstrap")
    return dict(re.findall(r"(MVM_\w+)=(\S+)", told))


@pytest.fixture(scope="module")
def image(desk: Desk, mvm: Path, roles: dict[str, str]) -> str:
    app = desk.directory / "mvm-app"
    app.mkdir()
    (app / "Dockerfile").write_text(DOCKERFILE)
    (app / "app.py").write_text(APP)
    built = desk.run(mvm, "image", "build", "by-mvm", str(app), "--memory", "512", more=roles)
    assert "by-mvm:1.0" in built
    return "by-mvm"


def ids(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"microvm-[0-9a-f-]{36}", text)))


def test_bootstrap_makes_bucket_and_roles(desk: Desk, mvm: Path, roles: dict[str, str]) -> None:
    """`mvm bootstrap` twice: bucket with its public access block, both roles with their policies."""
    assert set(roles) == {"MVM_ARTIFACT_BUCKET", "MVM_BUILD_ROLE_ARN", "MVM_EXECUTION_ROLE_ARN"}
    assert dict(re.findall(r"(MVM_\w+)=(\S+)", desk.run(mvm, "bootstrap"))) == roles


def test_an_application_is_built_and_called(desk: Desk, mvm: Path, image: str, roles: dict[str, str]) -> None:
    """An application is built and called.

    `mvm image build` for ARM_64 on AWS's base with its hook runtime; `image ls`, `image versions`, `run --wait`,
    `call`, `get`, `status`, `suspend`, a call that wakes it, `logs`, `terminate`.
    """
    assert image in desk.run(mvm, "image", "ls")
    assert "1" in desk.run(mvm, "image", "versions", image)
    (vm,) = ids(desk.run(mvm, "run", image, "--wait", more=roles))
    call = (mvm, "call", vm, "/execute", "-X", "POST", "-d", '{"say": "hello"}')
    assert '"count": 1' in desk.run(*call)
    assert json.loads(desk.run(mvm, "get", vm))["state"] == "RUNNING"
    assert desk.run(mvm, "status", vm)
    desk.run(mvm, "suspend", vm)
    assert '"count": 2' in desk.run(*call), "a request wakes it"
    desk.run(mvm, "logs", image)
    desk.run(mvm, "terminate", vm)


def test_a_fleet_is_scaled_and_drained(desk: Desk, mvm: Path, probe_image: Image) -> None:
    """`mvm scale` from none to three and to one, `ls`, `top`, `dispatch`, `drain`, `quotas`, `cost`."""
    name = probe_image.name
    desk.run(mvm, "scale", name, "3", "--wait")
    assert len(ids(desk.run(mvm, "ls", "--image", name, more={"COLUMNS": "200"}))) >= 1
    assert desk.run(mvm, "top", "--image", name)
    assert desk.run(mvm, "dispatch", name, "/", "-X", "GET", "-n", "3")
    desk.run(mvm, "scale", name, "1", "--wait")
    desk.run(mvm, "drain", name)
    assert desk.run(mvm, "quotas")
    assert desk.run(mvm, "cost")
