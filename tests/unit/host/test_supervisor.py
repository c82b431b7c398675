"""The supervisor, with real child processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from emberbox import process
from emberbox.host import supervisor
from emberbox.host.ports import free_port
from emberbox.host.supervisor import Helper, find_program, supervise
from emberbox.model.errors import HostError
from emberbox.process.adoption import write_note
from support.ports import accepts


async def always() -> bool:
    return True


def listener(directory: Path, port: int) -> Helper:
    code = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); "
        "print('up', flush=True); time.sleep(600)"
    )
    return Helper("listener", [sys.executable, "-S", "-c", code], directory, functools.partial(accepts, port))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # what is awaited happens in other processes
            await asyncio.sleep(0.01)


async def test_a_helper_is_ready_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    helper = listener(tmp_path / "run", free_port())
    async with supervise(helper) as supervised:
        assert await helper.is_ready()
        await wait_until(lambda: helper.log_path.read_text() == "up\n")
        pid = supervised.pid
    assert not is_running(pid)
    assert not helper.pid_path.exists()
    assert not await helper.is_ready()


async def test_a_killed_helper_is_started_again(tmp_path: Path) -> None:
    helper = listener(tmp_path, free_port())
    async with supervise(helper) as supervised:
        first = supervised.pid
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: supervised.restarts == 1)
        await supervised.wait_ready(60)
        assert supervised.pid != first


async def test_restarts_of_a_helper_that_cannot_live_come_ever_later(tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    code = f"import time; open({str(stamps)!r}, 'a').write(f'{{time.time()}}\\n')"
    async with supervise(Helper("mayfly", [sys.executable, "-S", "-c", code], tmp_path, always)) as supervised:
        await wait_until(lambda: supervised.restarts >= 4)
        await wait_until(lambda: len(stamps.read_text().split()) >= 5)
    times = [float(t) for t in stamps.read_text().split()]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[3] >= 0.39 > gaps[0]


async def test_a_helper_that_never_serves_is_reported_with_its_log_and_ended(tmp_path: Path) -> None:
    code = "import time; print('no such option', flush=True); time.sleep(600)"

    async def never() -> bool:
        return False

    helper = Helper("deaf", [sys.executable, "-S", "-c", code], tmp_path, never)
    with pytest.raises(HostError, match="no such option"):
        async with supervise(helper, ready_timeout_s=1.0):
            pytest.fail("it is not ready")
    assert not helper.pid_path.exists()


async def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(HostError, match="no-such-program"):
        async with supervise(Helper("x", ["no-such-program"], tmp_path, never), ready_timeout_s=0.5):
            pytest.fail("it is not ready")


@contextlib.asynccontextmanager
async def killed_server(directory: Path, port: int) -> AsyncIterator[int]:
    """A process that supervised the listener and was killed; gives the listener's pid, and ends it at the end."""
    parent_code = textwrap.dedent(f"""
        import asyncio, sys
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
        from pathlib import Path
        from test_supervisor import listener
        from emberbox.host.supervisor import supervise
        async def main():
            async with supervise(listener(Path({str(directory)!r}), {port})) as s:
                print(s.pid, flush=True)
                await asyncio.sleep(600)
        asyncio.run(main())
    """)
    parent = await process.start([sys.executable, "-c", parent_code], stdout=process.PIPE)
    assert parent.stdout is not None
    pid = 0
    try:
        pid = int(await parent.stdout.readline())
        parent.kill()
        await parent.wait()
        yield pid
    finally:
        await parent.kill_group()
        if pid:  # 0 would be all of this process's group
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_a_helper_outlives_a_server_that_is_killed_and_is_adopted(tmp_path: Path) -> None:
    port = free_port()
    async with killed_server(tmp_path, port) as pid:
        _, connection = await asyncio.open_connection("127.0.0.1", port)
        async with supervise(listener(tmp_path, port)) as supervised:
            assert supervised.pid == pid
            assert supervised.restarts == 0
        connection.close()
        assert not is_running(pid)


async def test_an_adopted_helper_that_dies_is_started_again(tmp_path: Path) -> None:
    port = free_port()
    async with killed_server(tmp_path, port) as pid, supervise(listener(tmp_path, port)) as supervised:
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: supervised.restarts == 1)
        await supervised.wait_ready(60)
        assert supervised.pid != pid


async def test_a_helper_of_another_form_is_ended_and_replaced(tmp_path: Path) -> None:
    port = free_port()
    async with killed_server(tmp_path, port) as pid:
        helper = listener(tmp_path, port)
        changed = dataclasses.replace(helper, arguments=[*helper.arguments, "more"])
        async with supervise(changed) as supervised:
            assert supervised.pid != pid
            assert not is_running(pid)


async def test_a_helper_that_was_never_noted_is_ended_first(tmp_path: Path) -> None:
    helper = listener(tmp_path, free_port())
    with helper.log_path.open("wb") as log:
        old = await process.start(helper.arguments, stderr=log)
    try:
        async with asyncio.timeout(60):
            while not await helper.is_ready():  # noqa: ASYNC110  # another process gets ready
                await asyncio.sleep(0.01)
        async with supervise(helper) as supervised:
            assert await old.wait() == -signal.SIGKILL
            assert is_running(supervised.pid)
    finally:
        await old.kill_group()


async def test_a_stranger_with_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    helper = listener(tmp_path, free_port())
    stranger = await process.start([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    try:
        write_note(helper.pid_path, stranger.pid, fingerprint=helper.fingerprint())
        async with supervise(helper) as supervised:
            assert supervised.pid != stranger.pid
        assert is_running(stranger.pid)
    finally:
        await stranger.kill_group()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": "x", "started": 1}'])
async def test_a_damaged_pid_file_stops_nothing(tmp_path: Path, text: str) -> None:
    helper = listener(tmp_path, free_port())
    helper.pid_path.write_text(text)
    async with supervise(helper) as supervised:
        assert is_running(supervised.pid)


async def test_what_a_helper_started_goes_with_it(tmp_path: Path) -> None:
    code = (
        f"import os,sys,time; p=os.fork(); p and open({str(tmp_path / 'child')!r},'w').write(str(p)); time.sleep(600)"
    )
    child = tmp_path / "child"
    async with supervise(Helper("parent", [sys.executable, "-S", "-c", code], tmp_path, always)) as supervised:
        await wait_until(lambda: child.exists() and child.read_text() != "")
        grandchild = int(child.read_text())
        child.unlink()
        os.kill(supervised.pid, signal.SIGKILL)
        await wait_until(lambda: not is_running(grandchild))
        await wait_until(lambda: child.exists() and child.read_text() != "")
        grandchild = int(child.read_text())
    await wait_until(lambda: not is_running(grandchild))


async def test_the_log_stays_bounded_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LOG_CHECK_S", 0.02)
    code = (
        "import time\nfor i in range(400): print('line', i, 'x' * 90, flush=True); time.sleep(0.001)\n"
        "while True: print('line 399 again', flush=True); time.sleep(0.2)"  # what is written during a cut may be lost
    )
    helper = Helper("chatty", [sys.executable, "-S", "-c", code], tmp_path, always, log_bytes=4096)
    older = helper.log_path.with_name("chatty.log.1")
    async with supervise(helper):
        await wait_until(lambda: "line 399 " in _read(helper.log_path) + _read(older))
        await wait_until(lambda: helper.log_path.stat().st_size <= 4096)
        assert older.stat().st_size <= 4096
        assert "\0" not in _read(helper.log_path)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def test_an_environment_with_secrets_is_not_in_the_repr(tmp_path: Path) -> None:
    helper = Helper("x", ["x"], tmp_path, always, environment={"KEY": "hunter2"})
    assert "hunter2" not in repr(helper)


def test_tools_are_found_beside_the_interpreter_and_on_the_path() -> None:
    assert find_program(Path(sys.executable).name) == str(Path(sys.executable))
    assert Path(find_program("setpriv")).is_absolute()
    assert find_program("no-such-program") == "no-such-program"
