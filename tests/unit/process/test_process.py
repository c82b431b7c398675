"""The one door to child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emberbox import process
from emberbox.process import CommandError, describe_exit


async def test_output_and_errors_are_returned() -> None:
    done = await process.run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


async def test_a_failure_shows_what_the_tool_said() -> None:
    with pytest.raises(CommandError, match="sh exited with code 7: the reason") as caught:
        await process.run(["sh", "-c", "echo the reason >&2; exit 7"])
    assert caught.value.returncode == 7


async def test_a_failure_can_be_asked_for() -> None:
    assert (await process.run(["sh", "-c", "exit 7"], check=False)).returncode == 7


async def test_a_missing_tool_names_doctor() -> None:
    with pytest.raises(CommandError, match="no-such-tool is not installed; `emberbox doctor`") as caught:
        await process.run(["no-such-tool"])
    assert caught.value.returncode == 127


async def test_lines_come_as_they_are_printed() -> None:
    lines: list[str] = []
    done = await process.run(["sh", "-c", "echo one; echo two >&2; printf three"], on_line=lines.append)
    assert lines == ["one", "two", "three"]
    assert (done.stdout, done.stderr) == ("one\ntwo\nthree", "")


async def test_what_runs_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(CommandError, match="sh did not finish within 1 s and was stopped") as caught:
        await process.run(["sh", "-c", script], timeout=1)
    assert caught.value.returncode is None
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}").exists():
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
            await asyncio.sleep(0.01)


async def test_a_cancelled_run_ends_the_tool(tmp_path: Path) -> None:
    task = asyncio.create_task(process.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"]))
    async with asyncio.timeout(60):
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):  # noqa: ASYNC110 - a shell writes it
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_the_environment_is_only_what_is_given() -> None:
    done = await process.run(["/usr/bin/env"], environment={"ONLY": "this"})
    assert done.stdout == "ONLY=this\n"


async def test_nothing_is_read_from_our_input() -> None:
    assert (await process.run(["cat"])).stdout == ""


async def test_a_child_has_a_session_of_its_own() -> None:
    code = "import os; print(os.getsid(0) == os.getpid())"
    assert (await process.run([sys.executable, "-c", code])).stdout == "True\n"


async def test_stop_asks_first_and_kills_then() -> None:
    polite = await process.start(["sleep", "600"])
    assert await process.stop(polite) == -15
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    stubborn = await process.start(["sh", "-c", script], stdout=process.PIPE)
    assert stubborn.stdout is not None
    await stubborn.stdout.readline()
    assert await process.stop(stubborn, grace_s=0.2) == -9
    assert await process.stop(stubborn) == -9


def test_exits_are_described() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert "-200" in describe_exit(-200)


DAEMON = "(setsid sh -c 'echo $$ > {pid}; exec sleep 600' &) ; sleep 600"


async def wait_pid(path: Path) -> int:
    async with asyncio.timeout(60):
        while not (path.exists() and path.read_text().strip()):  # noqa: ASYNC110 - a shell writes it
            await asyncio.sleep(0.01)
    return int(path.read_text())


def outside(name: str) -> list[int]:
    """Return the processes that sleep under a name of ours."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (entry / "environ").read_bytes() and b"sleep" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes process namespaces")
async def test_daemons_of_an_enclosed_tool_end_with_it_before_run_returns(tmp_path: Path) -> None:
    command = ["sh", "-c", DAEMON.format(pid=tmp_path / "pid")]
    mark = f"MARK={tmp_path}"
    environment = {**os.environ, "MARK": str(tmp_path)}
    task = asyncio.create_task(process.run(command, environment=environment, enclosed=True))
    await wait_pid(tmp_path / "pid")
    assert outside(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not outside(mark)


async def test_an_enclosed_tool_ends_when_its_server_is_killed(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from emberbox import process
asyncio.run(process.run(["sh", "-c", sys.argv[1]], enclosed=True))
"""
    mark, script = f"MARK={tmp_path}", f"echo 1 > {tmp_path}/pid; exec sleep 600"
    server = subprocess.Popen([sys.executable, "-c", code, script], env={**os.environ, "MARK": str(tmp_path)})  # noqa: ASYNC220 - it must be no child of our own door
    try:
        await wait_pid(tmp_path / "pid")
    finally:
        server.kill()
        server.wait()
    async with asyncio.timeout(60):
        while outside(mark):  # noqa: ASYNC110 - the kernel ends it
            await asyncio.sleep(0.01)
