"""Control groups around builds; the hierarchy here is a directory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from emberbox.host.cgroups import CONTROLLERS, Place
from emberbox.images.sandbox.base import Limits
from emberbox.images.sandbox.groups import BuildGroups

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=1, processes=100, timeout_s=1, processors=2)


async def test_a_build_is_held_as_long_as_it_lasts(tmp_path: Path) -> None:
    groups = BuildGroups(tmp_path, lambda: [Place(tmp_path, CONTROLLERS, unified=True)])
    async with groups.around(LIMITS) as group:
        assert group is not None
        (directory,) = group.directories
        assert "-build-" in directory.name
        assert {file.name: file.read_text() for file in directory.iterdir()} == {
            "memory.max": str(1 << 30),
            "pids.max": str(LIMITS.host_tasks()),
            "cpu.max": "200000 100000",
            "cpu.weight": "50",
        }
        for file in directory.iterdir():
            file.unlink()  # the kernel's go with their group
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("places", [[], [Place(Path("/none"), ("memory",), unified=True)]])
async def test_none_where_the_machine_gives_none_that_holds_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, places: list[Place]
) -> None:
    """The log says so, once."""
    groups = BuildGroups(tmp_path, lambda: places)
    for _ in range(2):
        async with groups.around(LIMITS) as group:
            assert group is None
    assert len([record for record in caplog.records if "cgroup" in record.message]) == 1


async def test_none_where_there_are_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    groups = BuildGroups(tmp_path, lambda: [Place(tmp_path / "gone", CONTROLLERS, unified=True)])
    async with groups.around(LIMITS) as group:
        assert group is None
    assert "No such file" in caplog.text


async def test_builds_that_begin_together_keep_their_groups(tmp_path: Path) -> None:
    """Each is empty until its sandbox enters it, and none is taken for one of an earlier server."""
    groups = BuildGroups(Path("/home"), lambda: [Place(tmp_path, CONTROLLERS, unified=True)])
    async with contextlib.AsyncExitStack() as builds:
        made = await asyncio.gather(*(builds.enter_async_context(groups.around(LIMITS)) for _ in range(20)))
        directories = [directory for group in made if group is not None for directory in group.directories]
        assert len({directory for directory in directories if directory.exists()}) == 20
        for file in (file for directory in directories for file in directory.iterdir()):
            file.unlink()
