"""Control groups around builds, in both forms that the kernel has; the files here are plain ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.images.sandbox.base import Limits
from emberbox.images.sandbox.groups import Groups, Passed

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=1, processes=100, timeout_s=1, processors=2)
ALL = "cpuset cpu io memory pids"


class Kernel:
    """A hierarchy of directories in place of the kernel's; a group that goes takes its files along, as there.

    Args:
        directory: for it.
        own: what /proc/self/cgroup says.
    """

    def __init__(self, directory: Path, own: str) -> None:
        self.mounted = directory / "cgroup"
        self.own = directory / "own"
        self.own.write_text(own)
        self.home = directory / "home"

    def add(self, path: str, **files: str) -> None:
        (self.mounted / path).mkdir(parents=True, exist_ok=True)
        for name, content in {"cgroup__procs": "", **files}.items():
            (self.mounted / path / name.replace("__", ".")).write_text(content)

    def groups(self) -> Groups:
        return Groups(self.home, self.mounted, self.own)

    def made(self) -> list[str]:
        return sorted(str(path.parent.relative_to(self.mounted)) for path in self.mounted.rglob("emberbox-build-*"))


def empty(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


@pytest.fixture
def second(tmp_path: Path) -> Kernel:
    """Version 2: the server has a group of systemd's."""
    kernel = Kernel(tmp_path, "0::/system.slice/emberbox.service\n")
    kernel.add(".", cgroup__controllers=ALL, cgroup__subtree_control=ALL)
    kernel.add("system.slice", cgroup__subtree_control=ALL)
    kernel.add("system.slice/emberbox.service", cgroup__subtree_control="")
    return kernel


@pytest.fixture
def first(tmp_path: Path) -> Kernel:
    """Version 1: each controller is mounted by itself, and the server has a group of memory."""
    kernel = Kernel(tmp_path, "7:pids:/\n4:memory:/mine\n2:cpu,cpuacct:/only/seen/outside\n0::/\n")
    for path in ("memory", "memory/mine", "pids", "cpu"):
        kernel.add(path)
    return kernel


async def test_one_group_of_version_2_beside_the_servers_own(second: Kernel) -> None:
    async with second.groups().around(LIMITS) as group:
        assert group is not None
        (directory,) = group.directories
        assert second.made() == ["system.slice"]
        told = {file.name: file.read_text() for file in directory.iterdir()}
        assert told == {
            "memory.max": str(1 << 30),
            "memory.oom.group": "1",
            "pids.max": str(LIMITS.host_tasks()),
            "cpu.max": "200000 100000",
            "cpu.weight": "50",
        }
        assert group.read_passed() == Passed(memory=False, processes=False)
        (directory / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
        (directory / "pids.events").write_text("max 1\n")
        assert group.read_passed() == Passed(memory=True, processes=True)
        empty(directory)
    assert second.made() == []


async def test_one_of_each_controller_of_version_1(first: Kernel) -> None:
    """Below the server's own, where it is seen."""
    async with first.groups().around(LIMITS) as group:
        assert group is not None
        memory, pids, cpu = group.directories
        assert first.made() == ["cpu", "memory/mine", "pids"]
        assert (memory / "memory.limit_in_bytes").read_text() == str(1 << 30)
        assert (pids / "pids.max").read_text() == str(LIMITS.host_tasks())
        assert [(cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")] == ["200000", "100000"]
        (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        assert group.read_passed() == Passed(memory=True, processes=False)
        for directory in group.directories:
            empty(directory)
    assert first.made() == []


async def test_the_group_above_is_taken_where_the_nearest_hands_nothing_down(second: Kernel) -> None:
    control = second.mounted / "system.slice/cgroup.subtree_control"
    control.unlink()
    control.mkdir()  # neither read nor written
    async with second.groups().around(LIMITS) as group:
        assert group is not None
        assert second.made() == ["."]
        empty(group.directories[0])


async def test_none_where_the_machine_gives_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, once."""
    kernel = Kernel(tmp_path, "0::/\n")
    kernel.add(".")
    groups = kernel.groups()
    for _ in range(2):
        async with groups.around(LIMITS) as group:
            assert group is None
    assert len([record for record in caplog.records if "control groups" in record.message]) == 1


async def test_what_an_earlier_server_has_left_is_removed(second: Kernel) -> None:
    """Of the same home, and of no other."""
    async with second.groups().around(LIMITS) as group:
        assert group is not None
        ours = group.directories[0]
        empty(ours)
        left, other = (ours.with_name(f"{name}-1") for name in (ours.name.rpartition("-")[0], "emberbox-build-another"))
        left.mkdir()
        other.mkdir()
        later = second.groups()
        async with later.around(LIMITS) as next_group:
            assert next_group is not None
            assert not left.exists()
            assert other.exists()
            empty(next_group.directories[0])
