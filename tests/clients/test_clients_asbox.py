"""asbox: sandboxes by a command (`asb`), an SDK and an MCP server; of vmnest's family, with the same guest."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_sandbox import copy_guest
from support.images import ImageMaker, probe_files, unique
from support.third_party import Desk, fetch_name_module, install_python, read_clients
from support.waiting import wait_for

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "asbox"
MCP = "mcp==1.30.0"
"""It asks for 1.2 and anything newer, and does not know 2."""

FORWARD = """\
"$1" forward one --remote-port 8080 --local-port "$2" >forward.log 2>&1 &
trap 'kill $!; wait $! || :' EXIT
curl -fsS --retry 60 --retry-delay 1 --retry-all-errors --max-time 10 "http://127.0.0.1:$2/healthz"
"""
NONSENSE = """\
import socket
with socket.create_connection(("127.0.0.1", 8080)) as asked:
    asked.sendall(b"nonsense\\r\\n\\r\\n")
    print(asked.recv(20))
"""
"""The guest warns of it, whatever its two servers have made of each other's logging (clients.toml)."""


@pytest.fixture(scope="module")
def programs() -> Path:
    return install_python(read_clients()[CLIENT], MCP)


@pytest.fixture(scope="module")
def asb_desk(desk: Desk, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with its guest and with what `asb infra up` makes."""
    desk = Desk(desk.server, tmp_path_factory.mktemp("asbox"), fetch_name_module())
    copy_guest(programs, desk.directory / "guest")
    desk.run(programs / "asb", "infra", "init")
    desk.run(programs / "asb", "infra", "preview")
    desk.run(programs / "asb", "infra", "up", timeout_s=1500)
    yield desk
    desk.run(programs / "asb", "infra", "destroy")
    assert json.loads(desk.run(programs / "asb", "infra", "output")) == {}


@pytest.fixture(scope="module")
def outputs(asb_desk: Desk, programs: Path) -> dict[str, str]:
    answer: dict[str, str] = json.loads(asb_desk.run(programs / "asb", "infra", "output"))
    return answer


def test_sandboxes_are_used(asb_desk: Desk, programs: Path, outputs: dict[str, str]) -> None:
    """Sandboxes are used.

    `asb infra init`, `preview`, `up` (bucket, role, image), `refresh`, `output`, `destroy`; `create`, `exec`, `forward`
    (a page of the sandbox on a port of this machine), `stop`, `start`, `ls`, `ps`, `inspect`, `metrics`,
    `logs --log-group`, `run`, `rm`.
    """

    def asb(*arguments: str) -> str:
        return asb_desk.run(programs / "asb", *arguments, more={"COLUMNS": "300"})

    asb("infra", "refresh")
    image = outputs["image_arn"]
    assert asb("infra", "output", "image_arn").strip() == image
    asb("create", "one")
    assert asb("exec", "one", "--", "sh", "-c", "echo kept > /tmp/file; echo $((2 * 3))") == "6\n"
    assert "ok" in asb_desk.run("bash", "-ec", FORWARD, "bash", programs / "asb", str(_free_port()))
    asb("stop", "one")
    assert "SUSPENDED" in asb("ps", "one")
    asb("start", "one")
    assert asb("exec", "one", "--", "cat", "/tmp/file") == "kept\n"
    assert "RUNNING" in asb("ls")
    assert json.loads(asb("inspect", "one"))["imageArn"] == image
    asb("metrics", "one")
    group = f"/aws/lambda-microvms/{image.rpartition(':')[2]}"
    assert "400" in asb("exec", "one", "--", "python3", "-c", NONSENSE)
    warned = "Invalid HTTP request received."
    wait_for("the guest's warning is in its log", lambda: warned in asb("logs", "one", "--log-group", group))
    assert "42" in asb("run", image, "--", "echo", "42")
    asb("rm", "one")
    assert "one" not in asb("ls")


def test_images_are_listed_and_deleted(asb_desk: Desk, programs: Path, images: ImageMaker) -> None:
    """Images are listed and deleted: `asb image ls`, with `--managed`, with `--json`, `image rm`."""

    def image(*arguments: str) -> str:
        return asb_desk.run(programs / "asb", "image", *arguments, more={"COLUMNS": "300"})

    made = images.build(unique("for-asb"), probe_files())
    assert made.arn in image("ls")
    assert made.arn in {row["imageArn"] for row in json.loads(image("ls", "--json"))}
    assert ":aws:microvm-image:" in image("ls", "--managed")
    image("rm", made.arn)
    wait_for("the image is gone", lambda: made.arn not in image("ls", "--json"))


def test_the_sdk(asb_desk: Desk, programs: Path, outputs: dict[str, str]) -> None:
    """By the SDK: create, exec with a directory and variables, files, suspend, start, inspect, terminate."""
    arguments = (outputs["image_arn"], outputs["execution_role_arn"])
    seen = asb_desk.script(programs / "python", "life_asbox.py", *arguments)
    assert seen == {
        "said": "me /tmp\n",
        "failed": [7, "bad\n"],
        "kept": b"\x00kept\xff".hex(),
        "state": "running",
        "inspected": True,
    }


def test_the_tools_of_its_mcp_server(asb_desk: Desk, programs: Path, outputs: dict[str, str]) -> None:
    """All 35 tools of its MCP server are called over stdio: runtime, infra, images, sandboxes, files, metrics, logs."""
    seen = asb_desk.script(programs / "python", "mcp_asbox.py", outputs["image_arn"])
    answers: dict[str, Any] = dict(seen["answers"])
    assert sorted(answers) == seen["tools"]
    assert len(seen["tools"]) == 35
    refused = {name: answer["error"]["code"] for name, answer in answers.items() if not answer["ok"]}
    assert refused == {
        "image_remove": "confirm_required",
        "image_prune": "confirm_required",
        "sandbox_logs_read": "ResourceNotFoundException",
        "sandbox_logs_stream": "ResourceNotFoundException",
    }
    assert answers["runtime_check"]["data"]["ready"]
    assert answers["sandbox_run"]["data"]["stdout"]["text"] == "once\n"
    assert answers["sandbox_shell"]["data"]["stdout"]["text"] == "42\n"
    assert [entry["name"] for entry in answers["sandbox_fs_list"]["data"]["entries"]] == ["c"]
    assert answers["sandbox_fs_exists"]["data"]["exists"] is False
    assert answers["sandbox_wait"]["data"]["reached_target"]
    assert seen["out"] == "of the host"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
