"""E2B's own SDK, unmodified, with real microVMs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import (
    CommandExitException,
    FilesystemEventType,
    FileType,
    PtySize,
    Sandbox,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
)

from support.aws import Clients
from support.e2b import e2b_environment
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module", autouse=True)
def environment(server: Server) -> Iterator[None]:
    """Lead the SDK here by its own variables."""
    with e2b_environment(server):
        yield


@pytest.fixture(scope="module")
def sandbox(probe_image: Image) -> Iterator[Sandbox]:
    """One sandbox for all that leaves it as it was."""
    with Sandbox.create(probe_image.name, timeout=3600, metadata={"for": "all"}, envs={"FROM": "create"}) as sandbox:
        yield sandbox


def test_commands_run_in_the_guest(sandbox: Sandbox) -> None:
    done = sandbox.commands.run("echo out $FROM; echo err >&2; uname -s")
    assert (done.stdout, done.stderr) == ("out create\nLinux\n", "err\n")
    with pytest.raises(CommandExitException) as failed:
        sandbox.commands.run("exit 3")
    assert failed.value.exit_code == 3
    assert sandbox.commands.run("id -u", user="65534").stdout == "65534\n"


def test_background_commands_take_input_and_are_found_again(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("while read x; do echo got $x; done", background=True, stdin=True)
    assert handle.pid in [item.pid for item in sandbox.commands.list()]
    handle.disconnect()
    again = sandbox.commands.connect(handle.pid)
    sandbox.commands.send_stdin(handle.pid, "it\n")
    sandbox.commands.close_stdin(handle.pid)
    assert again.wait().stdout == "got it\n"
    sleeping = sandbox.commands.run("sleep 1000", background=True)
    assert sandbox.commands.kill(sleeping.pid)
    assert not sandbox.commands.kill(sleeping.pid)


def test_files_are_written_read_listed_and_removed(sandbox: Sandbox) -> None:
    data = os.urandom(3 << 20)
    sandbox.files.write("/tmp/e2b/deep/data", data)
    assert bytes(sandbox.files.read("/tmp/e2b/deep/data", format="bytes")) == data
    sandbox.files.rename("/tmp/e2b/deep/data", "/tmp/e2b/moved")
    listed = {entry.name: entry.type for entry in sandbox.files.list("/tmp/e2b")}
    assert listed == {"deep": FileType.DIR, "moved": FileType.FILE}
    assert sandbox.files.get_info("/tmp/e2b/moved").size == len(data)
    assert not sandbox.files.make_dir("/tmp/e2b/deep")
    sandbox.files.remove("/tmp/e2b")
    assert not sandbox.files.exists("/tmp/e2b")


def test_directories_are_watched(sandbox: Sandbox) -> None:
    sandbox.files.make_dir("/tmp/watched")
    handle = sandbox.files.watch_dir("/tmp/watched")
    sandbox.files.write("/tmp/watched/new", "x")
    seen: list[tuple[str, FilesystemEventType]] = []

    def has_come() -> bool:
        seen.extend((event.name, event.type) for event in handle.get_new_events())
        return ("new", FilesystemEventType.CREATE) in seen

    wait_for("the event comes", has_come, 60)
    handle.stop()


def test_terminals_have_a_size(sandbox: Sandbox) -> None:
    heard = bytearray()
    handle = sandbox.pty.create(PtySize(rows=40, cols=120))
    sandbox.pty.send_stdin(handle.pid, b"stty size; exit\n")
    handle.wait(on_pty=heard.extend)
    assert b"40 120" in heard


def test_signed_urls_and_figures(sandbox: Sandbox) -> None:
    sandbox.files.write("/tmp/signed", "signed")
    url = sandbox.download_url("/tmp/signed")
    headers = ["-H", f"E2b-Sandbox-Id: {sandbox.sandbox_id}", "-H", "E2b-Sandbox-Port: 49983"]
    done = subprocess.run(["curl", "-sf", *headers, url], capture_output=True, timeout=60)
    assert done.stdout == b"signed"
    (figures,) = sandbox.get_metrics()
    assert figures.mem_total > figures.mem_used > 0


def test_lists_find_by_metadata(sandbox: Sandbox) -> None:
    found = Sandbox.list(SandboxQuery(metadata={"for": "all"})).next_items()
    assert sandbox.sandbox_id in [item.sandbox_id for item in found]
    assert Sandbox.list(SandboxQuery(metadata={"for": "nobody"})).next_items() == []


def test_memory_and_processes_outlive_a_pause(probe_image: Image, clients: Clients) -> None:
    sandbox = Sandbox.create(probe_image.name, timeout=3600)
    try:
        handle = sandbox.commands.run(
            "while :; do date > /tmp/next; mv /tmp/next /tmp/beat; sleep 0.2; done", background=True
        )
        sandbox.pause()
        assert sandbox.get_info().state == SandboxState.PAUSED
        assert not sandbox.is_running()
        again = Sandbox.connect(sandbox.sandbox_id, timeout=3600)
        assert again.is_running()
        assert [item.pid for item in again.commands.list()] == [handle.pid]
        again.files.remove("/tmp/beat")
        wait_for("it goes on", lambda: again.files.exists("/tmp/beat"), 60)
        assert again.commands.kill(handle.pid)
        snapshot = again.create_snapshot().snapshot_id
        with Sandbox.create(snapshot, timeout=600) as copy:
            assert copy.commands.run("cat /tmp/beat").stdout
            assert copy.get_info().name == snapshot
        launchable = clients.microvms.get_microvm_image(imageIdentifier=probe_image.arn)["latestActiveImageVersion"]
        assert launchable != snapshot.rpartition(":")[2]  # AWS's launches begin with the image as it was built
        (fork,) = again.fork()
        assert fork.commands.run("cat /tmp/beat").stdout
        fork.kill()
    finally:
        sandbox.kill()


def test_a_timeout_ends_a_sandbox(probe_image: Image) -> None:
    sandbox = Sandbox.create(probe_image.name, timeout=3600)
    sandbox.set_timeout(1)

    def has_ended() -> bool:
        try:
            sandbox.get_info()
        except SandboxNotFoundException:
            return True
        return False

    wait_for("it ends", has_ended, 60)


def test_a_port_is_reached_by_the_name_that_get_host_tells(sandbox: Sandbox, server: Server) -> None:
    host = sandbox.get_host(8080)
    assert host == f"8080-{sandbox.sandbox_id}.{server.endpoints['e2b_url'].replace('http://127.0.0.1', 'ember.test')}"

    def ask(name: str) -> str:
        command = ["curl", "-s", "-H", f"Host: {name}", server.endpoints["e2b_url"]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout

    assert '"port": 8080' in ask(host)
    assert "port is not open" in ask(sandbox.get_host(8999))


def test_the_example_of_the_documents_runs(probe_image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "e2b.md").read_text()
    example = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert example is not None
    exec(example[1].replace("my-image", probe_image.name), {})  # noqa: S102 - it is ours
    assert "Linux" in capsys.readouterr().out
