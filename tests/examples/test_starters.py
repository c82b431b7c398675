"""What `emberbox init` writes, run by `emberbox dev`: a newcomer's first half hour."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.aws import Clients
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

UP_TIMEOUT_S = 600.0


class Dev:
    """`emberbox dev` on a directory, with what it has printed."""

    def __init__(self, server: Server, directory: Path, output: Path) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [*server.command("dev"), str(directory), "--port", "0"],
                env=server.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._output.read_text()

    def wait_said(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until it has printed something so often."""

        def look() -> list[str] | None:
            found = re.findall(pattern, self.said())
            assert self.process.poll() is None or len(found) >= times, self.said()
            return found if len(found) >= times else None

        return wait_for(f"`emberbox dev` to say {pattern}", look, UP_TIMEOUT_S)

    def url(self) -> str:
        return self.wait_said(r"http://127\.0\.0\.1:\d+/")[0]

    def microvms(self) -> list[str]:
        """The microVMs that it has launched, one after the other."""
        return re.findall(r"microVM launched.*?(microvm-[0-9a-f-]+)", self.said())

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


@pytest.fixture
def workshop(server: Server, tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(server, tmp_path)
    yield made
    made.close()


class Workshop:
    """Makes directories by `emberbox init`, and runs them."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._begun: list[Dev] = []

    def init(self, template: str) -> Path:
        directory = self._directory / f"starter-{template}-{time.time_ns()}"
        done = subprocess.run(
            [*self._server.command("init"), str(directory), "--template", template],
            env=self._server.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return directory

    def begin(self, directory: Path) -> Dev:
        dev = Dev(self._server, directory, self._directory / f"output-{len(self._begun)}")
        self._begun.append(dev)
        return dev

    def close(self) -> None:
        for dev in self._begun:
            if dev.process.poll() is None:
                dev.end()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=120) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def state_of(clients: Clients, microvm: str) -> str:
    return str(clients.microvms.get_microvm(microvmIdentifier=microvm)["state"])


def read_hooks(text: str) -> list[str]:
    """Return which hooks an application says were called."""
    with contextlib.suppress(ValueError):
        return list(json.loads(text)["hooks"])
    return text.partition("hooks: ")[2].split()


@pytest.mark.parametrize("template", ["python", "node", "shell"])
def test_a_starter_runs_and_its_hooks_are_called(template: str, workshop: Workshop, clients: Clients) -> None:
    dev = workshop.begin(workshop.init(template))
    url = dev.url()
    (microvm,) = dev.microvms()
    first = get(url)
    assert read_hooks(first)[-2:] == ["ready", "run"], first
    assert microvm in first
    clients.microvms.suspend_microvm(microvmIdentifier=microvm)
    wait_for("SUSPENDED", lambda: state_of(clients, microvm) == "SUSPENDED")
    clients.microvms.resume_microvm(microvmIdentifier=microvm)
    wait_for("RUNNING", lambda: state_of(clients, microvm) == "RUNNING")
    after = get(url)
    assert read_hooks(after)[-2:] == ["suspend", "resume"], after
    assert dev.end() == 0, dev.said()
    wait_for("TERMINATED", lambda: state_of(clients, microvm) == "TERMINATED")


def test_a_change_is_built_and_served_at_the_same_address(workshop: Workshop, clients: Clients) -> None:
    directory = workshop.init("python")
    dev = workshop.begin(directory)
    url = dev.url()
    first = json.loads(get(url))
    program = directory / "app.py"
    text = program.read_text()

    program.write_text(text.replace("from a microVM", "changed"))
    dev.wait_said(r"microVM launched", times=2)
    wait_for("the change", lambda: json.loads(get(url))["hello"] == "changed")
    second = json.loads(get(url))
    assert second["microvm"] != first["microvm"]
    assert second["started"] != first["started"]
    before, now = dev.microvms()
    wait_for("TERMINATED", lambda: state_of(clients, before) == "TERMINATED")

    (directory / "Dockerfile").write_text("FROM emberbox/debian:12\nRUN echo because; exit 3\n")
    dev.wait_said("what ran before goes on")
    assert "because" in dev.said()
    assert json.loads(get(url))["microvm"] == second["microvm"] == now

    program.write_text(text)
    (directory / "README.md").write_text("what is ignored by .dockerignore")
    assert dev.process.poll() is None
    assert dev.end(signal.SIGTERM) == 0, dev.said()
    wait_for("TERMINATED", lambda: state_of(clients, now) == "TERMINATED")
    with pytest.raises(urllib.error.URLError):
        get(url)
    versions = clients.microvms.list_microvm_image_versions(imageIdentifier=_image_arn(clients, now))["items"]
    assert [one["imageVersion"] for one in versions if one["state"] == "SUCCESSFUL"] == ["2.0"]


def _image_arn(clients: Clients, microvm: str) -> str:
    return str(clients.microvms.get_microvm(microvmIdentifier=microvm)["imageArn"])


POST = """\
    def do_POST(self):
        content = self.read()
        self.answer(200, {"bytes": len(content), "last": content[-3:].decode()})

"""


def test_a_large_body_comes_through_whole(workshop: Workshop) -> None:
    directory = workshop.init("python")
    program = directory / "app.py"
    before, do_get, after = program.read_text().partition("    def do_GET")
    program.write_text(before + POST + do_get + after)
    dev = workshop.begin(directory)
    content = b"x" * (8 << 20) + b"end"
    with urllib.request.urlopen(urllib.request.Request(dev.url(), content, method="POST"), timeout=120) as answer:
        assert json.load(answer) == {"bytes": len(content), "last": "end"}
