"""Children that are watched by a descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import pytest
import uvloop

from emberbox import process
from emberbox.model.errors import HostError
from emberbox.process.watched import Child


def descriptors() -> set[tuple[int, str]]:
    """Return what this process has open: each number with what it leads to. Garbage of other tests is closed first."""
    gc.collect()
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # not the one of this listing
    return {(int(link.name), str(link.readlink())) for link in links}


async def start_sleeper() -> Child:
    return await process.start(["sleep", "600"])


async def test_all_who_wait_see_the_end() -> None:
    child = await start_sleeper()
    waiters = [asyncio.create_task(child.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert child.returncode is None
    child.kill()
    assert await asyncio.gather(*waiters) == [-signal.SIGKILL] * 3
    assert child.returncode == -signal.SIGKILL
    await child.kill_group()
    assert await child.wait() == -signal.SIGKILL


async def test_its_id_means_nothing_else_until_it_is_let_go() -> None:
    child = await start_sleeper()
    child.kill()
    await child.wait()
    os.kill(child.pid, 0)  # it is there, as a zombie
    await child.kill_group()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    child.terminate()
    child.kill()
    await child.kill_group()


async def test_what_it_started_ends_with_it_though_it_has_ended_first() -> None:
    child = await process.start(["sh", "-c", "sleep 600 & echo $!; exec true"], stdout=process.PIPE)
    assert child.stdout is not None
    left = int(await child.stdout.readline())
    assert await child.wait() == 0
    handle = os.pidfd_open(left)
    try:
        await child.kill_group()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        async with asyncio.timeout(20):
            await ended.wait()
        asyncio.get_running_loop().remove_reader(handle)
    finally:
        os.close(handle)


async def test_a_cancelled_wait_leaves_nothing_watched() -> None:
    child = await start_sleeper()
    before = descriptors()
    waiter = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert descriptors() <= before
    await child.kill_group()


async def test_a_server_with_many_descriptors_can_watch() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        child = await start_sleeper()
        assert child.returncode is None
        await child.kill_group()
        assert child.returncode == -signal.SIGKILL
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def on_the_servers_loop(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` as the server does. pytest's own loop is another, which closes descriptors in another order."""

    async def run() -> None:
        await work()

    uvloop.run(run())


class TakenAtOnce(io.FileIO):
    """A pipe whose number, where it is free when this file is closed, has just gone to a file of another thread's."""

    taken: ClassVar[list[int]] = []

    def close(self) -> None:
        if not self.closed:
            self.taken.append(os.open("/dev/null", os.O_RDWR))
            with contextlib.suppress(OSError):
                super().close()


class Popen(subprocess.Popen[bytes]):
    """A child whose pipes are such files."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stdout, self.stderr = (self._replace(pipe) for pipe in (self.stdout, self.stderr))

    def _replace(self, pipe: IO[bytes] | None) -> IO[bytes] | None:
        if pipe is None:
            return None
        with pipe:
            return cast("IO[bytes]", TakenAtOnce(os.dup(pipe.fileno()), "rb"))


def test_the_number_of_a_childs_pipe_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Popen)

    async def work() -> None:
        done = await process.run(["sh", "-c", "echo out; echo err >&2"])
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        await process.run(["echo", "line"], on_line=lambda line: None)

    on_the_servers_loop(work)
    assert len(TakenAtOnce.taken) == 3
    for number in TakenAtOnce.taken:
        os.fstat(number)  # it is still open
        os.close(number)


def test_files_that_threads_open_stay_theirs_while_children_come_and_go() -> None:
    taken: list[OSError] = []
    stop = threading.Event()

    def open_and_close() -> None:
        while not stop.is_set():
            number = os.open("/dev/null", os.O_RDWR)
            try:
                for _ in range(3):
                    os.fstat(number)
                os.close(number)
            except OSError as error:
                taken.append(error)

    async def work() -> None:
        for _ in range(75):
            await asyncio.gather(*(process.run(["true"]) for _ in range(4)))

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        on_the_servers_loop(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not taken


async def test_a_child_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def full(pid: int) -> int:
        started.append(pid)
        raise OSError(24, "Too many open files")

    before = descriptors()
    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(HostError, match="sh cannot be started: Too many open files"):
        await process.start(["sh", "-c", "sleep 600"], stdout=process.PIPE, stderr=process.PIPE)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
    assert descriptors() <= before


async def test_a_child_waits_until_its_output_is_read() -> None:
    child = await process.start(["sh", "-c", "head -c 3000000 /dev/zero; echo end"], stdout=process.PIPE)
    assert child.stdout is not None
    pieces = []
    while piece := await child.stdout.readline():
        pieces.append(piece)
    assert len(pieces) == 3, "a line of three million bytes comes in pieces"
    assert b"".join(pieces) == bytes(3_000_000) + b"end\n"
    await child.kill_group()
    assert await child.stdout.read() == b""


async def test_who_reads_from_a_child_that_is_killed_is_woken() -> None:
    child = await process.start(["sleep", "600"], stdout=process.PIPE)
    assert child.stdout is not None
    reading = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(0)
    await child.kill_group()
    assert await reading == b""
