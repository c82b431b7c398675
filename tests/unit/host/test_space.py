"""Room on the disk: its levels, who is told, and what is refused."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from emberbox.host import space as space_module
from emberbox.host.space import DiskSpace, Level, Room, default_reserve, is_full_disk
from emberbox.model.errors import CapacityError, DiskFullError, HostError

GIB = 1 << 30


@pytest.mark.parametrize(("total_gib", "reserve_gib"), [(4, 1), (20, 1), (100, 5), (200, 10), (5000, 10)])
def test_the_reserve_is_a_share_of_the_disk_within_bounds(total_gib: int, reserve_gib: int) -> None:
    assert default_reserve(total_gib * GIB) == reserve_gib * GIB


@pytest.mark.parametrize(
    ("free", "before", "level"),
    [
        (1000, Level.ENOUGH, Level.ENOUGH),
        (999, Level.ENOUGH, Level.LOW),
        (1050, Level.LOW, Level.LOW),
        (1100, Level.LOW, Level.ENOUGH),
        (500, Level.LOW, Level.LOW),
        (499, Level.ENOUGH, Level.FULL),
        (540, Level.FULL, Level.FULL),
        (550, Level.FULL, Level.LOW),
        (1100, Level.FULL, Level.ENOUGH),
    ],
)
def test_a_level_ends_a_little_above_where_it_began(free: int, before: Level, level: Level) -> None:
    assert Room(10_000, free, 1000).level(before) is level


class Disk:
    """A disk whose free space is what a test says."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / "runtime").mkdir()
        self.free = 100_000
        monkeypatch.setattr(space_module, "measure", lambda *_: Room(1_000_000, self.free, 16_000))
        monkeypatch.setattr(space_module, "POLL_S", 0.001)
        self.space = DiskSpace(directory)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_below_the_reserve_something_new_is_refused_with_all_that_helps(disk: Disk, tmp_path: Path) -> None:
    disk.space.check("A MicroVM cannot be launched")
    disk.free = 15_999
    with pytest.raises(CapacityError) as caught:
        disk.space.check("A MicroVM cannot be launched")
    assert f"launched now: the disk of {tmp_path} has 0 MiB free and 0 MiB are needed; free some" in str(caught.value)


async def test_who_wants_to_know_is_told_once_each_time(disk: Disk) -> None:
    told: list[bool] = []

    async def listen(full: bool) -> None:
        told.append(full)

    disk.space.on_full(listen)
    watching = asyncio.create_task(disk.space.watch())
    disk.free = 10
    await disk.space.wait_until(full=True)
    disk.free = 100_000
    await disk.space.wait_until(full=False)
    watching.cancel()
    assert told == [True, False]


async def test_work_ends_when_the_disk_is_full(disk: Disk) -> None:
    watching = asyncio.create_task(disk.space.watch())
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    working = asyncio.create_task(disk.space.unless_full(work()))
    await asyncio.sleep(0.01)
    disk.free = 10
    with pytest.raises(DiskFullError, match="free some space"):
        await working
    assert ended.is_set()
    watching.cancel()


async def test_work_that_ends_by_itself_returns_what_it_returns(disk: Disk) -> None:
    async def work() -> int:
        return 7

    assert await disk.space.unless_full(work()) == 7


async def test_the_ballast_goes_when_nothing_is_left_and_comes_back(disk: Disk, tmp_path: Path) -> None:
    ballast = tmp_path / "runtime" / "ballast"
    watching = asyncio.create_task(disk.space.watch())
    async with asyncio.timeout(60):
        for free, exists in ((100_000, True), (7_000, True), (900, False), (9_000, False), (100_000, True)):
            disk.free = free
            while ballast.exists() is not exists:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert ballast.exists() is exists
    assert ballast.stat().st_size == 1000
    watching.cancel()


def test_a_server_that_starts_on_a_full_disk_has_the_ballast_s_room_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = tmp_path / "runtime" / "ballast"
    ballast.parent.mkdir()
    ballast.write_bytes(b"x")
    monkeypatch.setattr(space_module, "measure", lambda *_: Room(1_000_000, 0, 16_000))
    assert DiskSpace(tmp_path).is_full
    assert not ballast.exists()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (HostError("(sqlite3.OperationalError) database or disk is full"), True),
        (HostError("tar: write error: No space left on device"), True),
        (DiskFullError("the disk of /x has 1 MiB free"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (HostError("something else"), False),
    ],
)
def test_errors_of_a_full_disk_are_told_from_others(error: Exception, full: bool) -> None:
    assert is_full_disk(error) is full
