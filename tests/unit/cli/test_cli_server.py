"""`emberbox up` and `down`, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_world import LogsApi, write_home
from typer.testing import CliRunner

from emberbox.cli.main import app
from emberbox.cli.server import _tell_of_names, run_foreground, start_detached, stop_server
from emberbox.host.ports import free_port
from emberbox.model.errors import HostError
from emberbox.settings import Settings, load

LISTEN = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", 0))
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(server.getsockname()[1], flush=True)
while True:
    server.accept()
"""


@pytest.fixture
def start_listener() -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        child = subprocess.Popen([sys.executable, "-c", LISTEN, *arguments], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        return child, int(child.stdout.readline())

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_down_stops_the_server_and_waits(
    home: Path, start_listener: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    child, port = start_listener()
    write_home(home, child.pid, port)
    result = CliRunner().invoke(app, ["down"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"stopped (pid {child.pid})")
    assert child.wait(0) == -signal.SIGTERM


def test_down_says_when_the_server_does_not_end(
    home: Path, start_listener: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    child, port = start_listener("stubborn")
    write_home(home, child.pid, port)
    result = CliRunner().invoke(app, ["down", "--timeout", "0.3"])
    assert result.exit_code == 1
    assert f"(pid {child.pid}) has not ended within 0.3 s" in result.stderr
    assert child.poll() is None


def test_stopping_what_has_ended_is_no_error() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    stop_server(child.pid)


def test_a_second_server_is_refused(logs_api: LogsApi) -> None:
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert result.stderr == (f"error: a server runs already (pid {os.getpid()}); `emberbox down` stops it\n")


def test_starting_in_the_background_what_runs_is_no_error(logs_api: LogsApi) -> None:
    result = CliRunner().invoke(app, ["up", "--detach"])
    assert (result.exit_code, result.stdout) == (0, f"a server runs already (pid {os.getpid()})\n")


def test_a_server_that_cannot_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load()
    monkeypatch.setenv("EMBERBOX_API_PORT", "many")
    lines: list[str] = []
    with pytest.raises(HostError, match=r"the server did not start: error: .*cannot be 'many'"):
        start_detached(settings, lines.append)
    assert len(lines) == 1
    assert lines[0] in (home / "runtime" / "server.log").read_text()


def test_sigterm_ends_a_server_in_the_foreground_cleanly(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = False

    async def serve(settings: Settings, on_ready: Callable[[], None]) -> None:
        nonlocal cleaned
        write_home(settings.home, os.getpid(), free_port())
        on_ready()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned = True

    module = types.ModuleType("emberbox.app")
    module.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "emberbox.app", module)
    run_foreground(load())
    assert cleaned
    shown = capsys.readouterr().out
    assert shown.startswith("ready: API http://127.0.0.1:")


async def test_names_that_do_not_resolve_are_told_with_a_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await _tell_of_names(load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_DOMAIN": "ember.invalid"}))
    assert "ember.invalid does not resolve here" in caplog.text
    assert "*.lambda-microvm.us-east-1.ember.invalid" in caplog.text
