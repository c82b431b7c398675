"""Control groups around builds; the hierarchy here is a directory."""

from __future__ import annotations

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


async def test_what_an_earlier_server_has_left_is_removed(tmp_path: Path) -> None:
    """Of the same home, and of no other."""
    place = Place(tmp_path, CONTROLLERS, unified=True)
    async with BuildGroups(Path("/home"), lambda: [place]).around(LIMITS) as group:
        assert group is not None
        (ours,) = group.directories
        left, other = ours.with_name(f"{ours.name}0"), tmp_path / "emberbox-0123456789-build-0"
        left.mkdir()
        other.mkdir()
        async with BuildGroups(Path("/home"), lambda: [place]).around(LIMITS) as later:
            assert later is not None
            assert (left.exists(), other.exists()) == (False, True)
            for directory in (*later.directories, ours):
                for file in directory.iterdir():
                    file.unlink()
