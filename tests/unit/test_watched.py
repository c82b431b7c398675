"""Children that are watched by a descriptor."""

from __future__ import annotations

import asyncio
import os
import resource
import signal

import pytest

from emberbox import process
from emberbox.watched import Child


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
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one name for one descriptor
    waiter = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
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
