"""The SDK with real microVMs: each promise of docs/sdk.md, and its examples as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import emberbox_sdk
from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from emberbox.time_limits import limit_s
from emberbox_sdk import (
    AsyncClient,
    AsyncSandbox,
    Change,
    Client,
    Config,
    ConflictError,
    DeadlineError,
    DisconnectedError,
    Image,
    Kind,
    NoInterpreterError,
    NotFoundError,
    Sandbox,
    State,
)
from support.e2b import build_code_interpreter, e2b_environment
from support.images import Image as MadeImage
from support.images import ImageMaker
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONG_S = limit_s(120)


@pytest.fixture(scope="module")
def config(server: Server, images: ImageMaker) -> Config:  # which makes its bucket where there is none yet
    return Config.from_environment(variables(get_server(server.home)))


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[Client]:
    with Client(config) as client:
        yield client


@pytest.fixture(scope="module")
def image(client: Client) -> Image:
    return Image.default(client=client)


@pytest.fixture(scope="module")
def sandbox(client: Client, image: Image) -> Iterator[Sandbox]:
    with Sandbox.create(image, client=client, timeout_s=LONG_S) as sandbox:
        yield sandbox


def examples(path: str) -> list[str]:
    found = EXAMPLE.findall((ROOT / path).read_text())
    assert found
    return found


# --- commands


def test_a_command_has_outputs_and_an_exit_code(sandbox: Sandbox) -> None:
    heard: list[str] = []
    result = sandbox.run('echo "$A"; pwd; id -un; cat; echo err >&2; exit 3', env={"A": "é"}, cwd="/tmp",
                         user="www-data", stdin="in", on_stdout=heard.append)  # fmt: skip
    assert (result.exit_code, result.stdout, result.stderr) == (3, "é\n/tmp\nwww-data\nin", "err\n")
    assert "".join(heard) == result.stdout
    assert sandbox.run(["echo", "$A"]).stdout == "$A\n"
    data = os.urandom(1 << 20)
    assert sandbox.run("wc -c", stdin=data).stdout == f"{len(data)}\n"


def test_a_command_that_takes_too_long_is_ended(sandbox: Sandbox) -> None:
    with pytest.raises(DeadlineError) as caught:
        sandbox.run("echo begun; exec sleep 4321", timeout_s=limit_s(3))
    assert caught.value.stdout == "begun\n"
    wait_for("the command has ended", lambda: sandbox.run("grep -q '[4]321' /proc/[0-9]*/cmdline").exit_code)


def test_a_command_in_the_background_takes_input_and_signals(sandbox: Sandbox) -> None:
    with sandbox.start("trap 'echo got; exit 9' TERM; read line; echo $line; while :; do sleep 0.1; done") as command:
        command.send("hello\n")
        output = command.read(LONG_S)
        assert output is not None
        assert output.text == "hello\n"
        command.kill(15)
        assert (command.wait(LONG_S).stdout, command.exit_code) == ("got\n", 9)


def test_what_a_command_writes_comes_as_it_is_written(sandbox: Sandbox) -> None:
    with sandbox.start("for i in 1 2 3; do echo $i; done") as command:
        assert "".join(output.text for output in command) == "1\n2\n3\n"


def test_a_terminal_has_the_size_that_was_asked_for(sandbox: Sandbox) -> None:
    with sandbox.pty(["sh", "-c", "read go; stty size; echo $TERM"], columns=100, rows=30) as terminal:
        terminal.send("\n")
        assert terminal.wait(LONG_S).stdout.endswith("30 100\r\nxterm-256color\r\n")


# --- files


def test_files_go_both_ways(sandbox: Sandbox, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "local").write_bytes(data)
    sandbox.files.write("/data/one/missing/file", tmp_path / "local", mode=0o600)
    assert sandbox.files.read_bytes("/data/one/missing/file") == data
    with sandbox.files.stream("/data/one/missing/file") as pieces:
        assert b"".join(pieces) == data
    sandbox.files.write("/data/text", "é")
    assert sandbox.files.read("/data/text") == "é"
    entry = sandbox.files.stat("/data/one/missing/file")
    assert (entry.kind, entry.size, entry.mode) == (Kind.FILE, len(data), 0o600)
    with pytest.raises(NotFoundError):
        sandbox.files.read("/data/none")


def test_one_missing_directory_is_made_and_not_taken_for_the_file(sandbox: Sandbox) -> None:
    sandbox.files.write("/fresh/file", "x")
    assert [(entry.path, entry.kind) for entry in sandbox.files.list("/fresh")] == [("/fresh/file", Kind.FILE)]


def test_names_are_listed_moved_and_removed(sandbox: Sandbox) -> None:
    sandbox.run(
        "mkdir -p /names/d; echo 1 > '/names/two\nlines'; ln -s nowhere /names/l; mkfifo /names/d/p", check=True
    )
    found = {entry.path: entry.kind for entry in sandbox.files.list("/names", depth=2)}
    assert found == {
        "/names/d": Kind.DIRECTORY,
        "/names/d/p": Kind.OTHER,
        "/names/l": Kind.LINK,
        "/names/two\nlines": Kind.FILE,
    }
    sandbox.files.rename("/names/d", "/names/moved")
    assert sandbox.files.exists("/names/moved/p")
    sandbox.files.remove("/names")
    assert not sandbox.files.exists("/names")
    with pytest.raises(NotFoundError):
        sandbox.files.list("/names")
    with pytest.raises(ConflictError):
        sandbox.files.list("/etc/hostname")


def test_what_happened_and_what_is_used_is_told(client: Client, image: Image) -> None:
    with Sandbox.create(image, client=client, timeout_s=LONG_S) as sandbox:
        sandbox.run("echo heard > /proc/1/fd/1", check=True)
        logs = sandbox.history.logs()
        wait_for("the line", lambda: "heard" in [line.message for line in logs.poll()])
        states = [event.state for event in sandbox.history.events()]
        assert (states[0], states[-1]) == ("PENDING", "RUNNING")
        (used,) = [usage for usage in client.host().sandboxes if usage.sandbox_id == sandbox.id]
        assert used.memory_bytes > 0
        assert image.name in [one.name for one in Image.list(client=client)]
        seen = sandbox.history.events(follow=True)
        while (event := next(seen)).state != "RUNNING":
            pass
        sandbox.suspend(timeout_s=LONG_S)
        assert next(seen).before == event.state == "RUNNING"


def test_a_sandbox_need_not_be_asked_for(client: Client, sandbox: Sandbox) -> None:
    again = Sandbox.connect(sandbox.id, check=False, client=client)
    assert again.run("hostname").stdout.strip() == sandbox.id
    terminal = again.start(["tty"], terminal=True)
    assert terminal.wait(LONG_S).stdout.startswith("/dev/pts/")


async def test_trees_go_both_ways_for_asyncio_too(config: Config, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(os.urandom(5 << 20))
    (tmp_path / "tree" / "link").symlink_to("/etc/hostname")
    counts: list[int] = []
    async with await AsyncSandbox.connect(sandbox.id, config=config) as same:
        await same.files.upload(tmp_path / "tree", "/from-async", on_bytes=counts.append)
        await same.files.download("/from-async", tmp_path / "back", into=False)
    assert counts[-1] > 5 << 20
    assert (tmp_path / "back" / "large").read_bytes() == (tmp_path / "tree" / "large").read_bytes()
    assert (tmp_path / "back" / "link").readlink() == Path("/etc/hostname")


def test_trees_go_both_ways(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "f").write_text("content")
    sandbox.files.upload(tmp_path / "tree", "/uploaded")
    sandbox.files.download("/uploaded", tmp_path / "back")
    assert (tmp_path / "back" / "uploaded" / "sub" / "f").read_text() == "content"


def test_what_happens_below_a_directory_is_told(sandbox: Sandbox) -> None:
    sandbox.files.write("/watched/old", "x")
    events = sandbox.files.watch("/watched", every_s=0.1)
    threading.Timer(limit_s(2), sandbox.run, ["cd /watched; echo > new"]).start()
    event = next(events)
    assert (event.change, event.path) == (Change.CREATED, "/watched/new")
    sandbox.run("rm /watched/old")
    assert any(event.path == "/watched/old" and event.change is Change.REMOVED for event in events)


# --- code


def test_code_keeps_its_variables_and_contexts_are_apart(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 1")
    execution = sandbox.run_code("print('out')\nimport sys; print('err', file=sys.stderr)\nx + 1")
    assert (execution.text, execution.stdout, execution.stderr) == ("2", "out\n", "err\n")
    failed = sandbox.context("other").run("x")
    assert failed.error is not None
    assert failed.error.name == "NameError"


def test_code_that_takes_too_long_is_interrupted_and_keeps_its_variables(sandbox: Sandbox) -> None:
    context = sandbox.context("slow")
    context.run("y = 1")
    with pytest.raises(DeadlineError, match="variables are still there"):
        context.run("y = 2\nwhile True: pass", timeout_s=limit_s(2))
    assert context.run("y").text == "2"
    context.restart()
    assert context.run("y").error is not None


def test_an_image_without_python_says_what_to_do(client: Client, probe_image: MadeImage) -> None:
    with (
        Sandbox.create(probe_image.name, client=client, timeout_s=LONG_S) as sandbox,
        pytest.raises(NoInterpreterError, match="apt-get install -y python3"),
    ):
        sandbox.run_code("1")


def test_charts_are_pictures(client: Client, server: Server) -> None:
    with e2b_environment(server):
        image = build_code_interpreter()
    with Sandbox.create(image, client=client, timeout_s=LONG_S) as sandbox:
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
        execution = sandbox.run_code(code, timeout_s=limit_s(300))
        assert execution.error is None, execution.error
        assert execution.png is not None
        assert execution.png.startswith(b"\x89PNG")
    wait_for("it has ended", lambda: sandbox.info().state is State.TERMINATED)


# --- ports


def test_a_port_is_reached_and_follows_a_resume(client: Client, image: Image) -> None:
    with Sandbox.create(image, client=client, timeout_s=LONG_S) as sandbox:
        sandbox.start("exec python3 -m http.server 8000 --directory /etc")
        port = sandbox.url(8000)
        assert port.wait(LONG_S).status_code == 200
        assert port.get("/hostname").text.strip() == sandbox.id
        sandbox.suspend(timeout_s=LONG_S)
        assert port.get().status_code == 502
        sandbox.resume(timeout_s=LONG_S)
        assert port.wait(LONG_S, "/hostname").text.strip() == sandbox.id


# --- life


def test_memory_goes_on_after_suspends_forks_and_rollbacks(client: Client, image: Image) -> None:
    with Sandbox.create(image, client=client, timeout_s=LONG_S) as sandbox:
        sandbox.run_code("x = 'first'")
        command = sandbox.start("exec sleep 4242")
        sandbox.suspend(timeout_s=LONG_S)
        assert sandbox.info().state is State.SUSPENDED
        with pytest.raises(DisconnectedError, match="goes on when the sandbox is resumed"):
            command.wait(LONG_S)
        with pytest.raises(ConflictError, match=r"resume\(\)"):
            sandbox.run("true")
        sandbox.resume(timeout_s=LONG_S)
        assert sandbox.run_code("x").text == "'first'"
        assert "4242" in sandbox.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
        checkpoint = sandbox.checkpoint(launchable=True)
        sandbox.run_code("x = 'second'")
        for fork in sandbox.fork(2, timeout_s=LONG_S):
            with fork:
                assert fork.run_code("x").text == "'second'"
                assert fork.run("hostname").stdout.strip() == fork.id
        sandbox.rollback(checkpoint, timeout_s=LONG_S)
        assert sandbox.run_code("x").text == "'first'"
        with Sandbox.create(checkpoint, client=client, timeout_s=LONG_S) as another:
            assert another.run_code("x").text == "'first'"
        again = Sandbox.connect(sandbox.id, client=client)
        assert again.run_code("x").text == "'first'"
        assert sandbox.id in [info.id for info in Sandbox.list(client=client)]
    wait_for("it has ended", lambda: sandbox.info().state is State.TERMINATED)


async def test_many_at_once(config: Config, image: Image) -> None:
    async with (
        AsyncClient(config) as client,
        await AsyncSandbox.create(image.name, client=client, timeout_s=LONG_S) as sandbox,
    ):
        results = await asyncio.gather(*(sandbox.run(f"sleep 0.2; echo {number}") for number in range(8)))
        assert [result.stdout for result in results] == [f"{number}\n" for number in range(8)]
        codes = await asyncio.gather(*(sandbox.run_code(f"x = {number}; x") for number in range(3)))
        assert [code.text for code in codes] == ["0", "1", "2"]
        with pytest.raises(DeadlineError):
            await sandbox.run("yes > /dev/null", timeout_s=limit_s(1))
        async with await sandbox.start("cat") as command:
            await command.send(b"\x00\xff")
            output = await command.read(LONG_S)
            assert output is not None
            assert output.data == b"\x00\xff"


# --- images, and what the documents say


def test_the_same_contents_are_built_once(client: Client, image: Image) -> None:
    told: list[str] = []
    assert Image.default(client=client, on_progress=told.append) == image
    assert "building" not in " ".join(told)


@pytest.mark.parametrize("path", ["docs/sdk.md", "sdk/README.md", "README.md"])
def test_the_examples_run_as_they_stand_there(
    path: str, server: Server, image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables(get_server(server.home)).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    for example in examples(path):
        if "import boto3" in example:  # of README.md: tests/conformance/test_conformance_cli.py runs it
            continue
        exec(compile(example, path, "exec"), names)  # noqa: S102 - that they run is what is tested


def test_the_example_of_the_package_runs(
    server: Server, image: Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in variables(get_server(server.home)).items():
        monkeypatch.setenv(name, value)
    assert emberbox_sdk.__doc__
    example = textwrap.dedent(emberbox_sdk.__doc__.partition("\n\n")[2])
    exec(example, {"Sandbox": Sandbox})  # noqa: S102
    assert capsys.readouterr().out.endswith("42\n")
