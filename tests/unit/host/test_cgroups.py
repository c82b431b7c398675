"""Limits around processes: where groups are made, what is written into them. Hierarchies are directories here."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emberbox.host import cgroups
from emberbox.host.cgroups import Group, Groups, Limits, Place, find_places, open_places, sweep

LIMITS = Limits(memory_bytes=1 << 30, processors=2, processes=100)
WriteText = Callable[..., int]


def make_proc(directory: Path, groups: str, mounts: list[str]) -> Path:
    """Write what proc(5) says of this process: its groups, and where hierarchies are mounted."""
    proc = directory / "proc"
    proc.mkdir(exist_ok=True)
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    return proc


def unified(directory: Path, own: str = "/service", controllers: str = "cpu io memory pids") -> tuple[Path, Path]:
    """Make a hierarchy of version 2; return this process in proc(5) and its group."""
    group = directory / "v2" / own.lstrip("/")
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text(controllers)
    (group / "cgroup.subtree_control").write_text("")
    (group / "cgroup.procs").write_text("")
    mount = f"31 23 0:26 / {directory}/v2 rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
    return make_proc(directory, f"0::{own}\n", [mount]), group


class TestPlaces:
    def test_version_1_has_a_place_for_each_controller(self, tmp_path: Path) -> None:
        for name in ("memory/jail/a", "cpu,cpuacct", "pids"):
            (tmp_path / name).mkdir(parents=True)
        mounts = [
            f"31 23 0:2 /jail {tmp_path}/memory rw - cgroup cgroup rw,memory",
            f"32 23 0:3 / {tmp_path}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
            f"33 23 0:4 / {tmp_path}/pids rw - cgroup cgroup rw,pids",
            "34 23 0:5 / /elsewhere rw - tmpfs tmpfs rw",
        ]
        (tmp_path / "memory/a").mkdir()
        proc = make_proc(tmp_path, "4:memory:/jail/a\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n", mounts)
        assert find_places(proc) == [
            Place(tmp_path / "memory/a", ("memory",), unified=False),
            Place(tmp_path / "cpu,cpuacct", ("cpu",), unified=False),
            Place(tmp_path / "pids", ("pids",), unified=False),
        ]

    def test_version_2_has_one_for_all_that_it_was_given(self, tmp_path: Path) -> None:
        proc, group = unified(tmp_path, controllers="io memory pids")
        assert find_places(proc) == [Place(group, ("memory", "pids"), unified=True)]
        assert Groups(find_places(proc)).lacks == ("processors",)

    def test_a_group_outside_of_what_is_mounted_is_none(self, tmp_path: Path) -> None:
        mount = f"31 23 0:26 /elsewhere {tmp_path} rw - cgroup2 cgroup2 rw"
        assert find_places(make_proc(tmp_path, "0::/service\n", [mount])) == []
        assert find_places(make_proc(tmp_path, "0::/../service\n", [mount.replace("/elsewhere", "/")])) == []

    def test_a_hierarchy_that_cannot_be_written_to_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proc, _group = unified(tmp_path)
        monkeypatch.setattr(os, "access", lambda *_arguments: False)
        assert find_places(proc) == []

    def test_a_server_that_has_moved_aside_makes_them_where_it_was(self, tmp_path: Path) -> None:
        proc, group = unified(tmp_path)
        (group / "emberbox-server").mkdir()
        (proc / "cgroup").write_text("0::/service/emberbox-server\n")
        assert [place.path for place in find_places(proc)] == [group]


class TestHandingDown:
    def test_controllers_are_handed_down(self, tmp_path: Path) -> None:
        proc, group = unified(tmp_path)
        assert [place.path for place in open_places(proc)] == [group]
        assert set((group / "cgroup.subtree_control").read_text().split()) == {"+memory", "+cpu", "+pids"}

    @pytest.mark.parametrize("is_alone", [True, False])
    def test_a_process_in_the_way_moves_aside_unless_others_are_there_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_alone: bool
    ) -> None:
        proc, group = unified(tmp_path)
        moved, write = [], Path.write_text

        def busy(path: Path, text: str) -> int:
            """As the kernel does: EBUSY while processes are in the group."""
            if path.name == "cgroup.subtree_control" and not (moved and is_alone):
                raise OSError(16, "busy")
            if path.name == "cgroup.procs":
                moved.append(path.parent)
                return len(text)
            return write(path, text)

        monkeypatch.setattr(Path, "write_text", busy)
        assert bool(open_places(proc)) == is_alone
        aside = group / "emberbox-server"
        assert moved == ([aside] if is_alone else [aside, group])
        assert aside.exists() == is_alone

    def test_what_it_has_started_moves_aside_with_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        proc, group = unified(tmp_path)
        moved, write = [], Path.write_text

        def busy(path: Path, text: str) -> int:
            if path.name == "cgroup.subtree_control" and len(moved) < 2:
                raise OSError(16, "busy")
            if path.name == "cgroup.procs":
                moved.append((path.parent.name, text))
                return len(text)
            return write(path, text)

        with subprocess.Popen(["sleep", "60"]) as child:
            write(group / "cgroup.procs", f"1\n{os.getpid()}\n{child.pid}\n")
            monkeypatch.setattr(Path, "write_text", busy)
            assert [place.path for place in open_places(proc)] == [group]
            child.kill()
        assert moved == [("emberbox-server", "0"), ("emberbox-server", str(child.pid))]


class TestGroups:
    def test_limits_are_written_in_the_words_of_each_version(self, tmp_path: Path) -> None:
        old = [Place(tmp_path / name, (name,), unified=False) for name in ("memory", "cpu", "pids")]
        new = Place(tmp_path / "v2", ("memory", "cpu", "pids"), unified=True)
        for place in [*old, new]:
            place.path.mkdir()
        memory, cpu, pids = Groups(old).make("vm", LIMITS).directories
        assert (memory / "memory.limit_in_bytes").read_text() == str(1 << 30)
        assert (cpu / "cpu.cfs_quota_us").read_text() == str(2 * int((cpu / "cpu.cfs_period_us").read_text()))
        assert (cpu / "cpu.shares").read_text() == "1024"
        assert (pids / "pids.max").read_text() == "100"
        (one,) = Groups([new]).make("vm", LIMITS).directories
        written = {path.name: path.read_text() for path in one.iterdir()}
        assert written == {
            "memory.max": str(1 << 30), "cpu.max": "200000 100000", "cpu.weight": "100", "pids.max": "100",
        }  # fmt: skip
        (half,) = Groups([new]).make("vm", Limits(1, 0.5, 1, share=50)).directories
        assert [(half / name).read_text() for name in ("cpu.max", "cpu.weight")] == ["50000 100000", "50"]

    def test_nothing_is_left_of_one_that_cannot_be_made(self, tmp_path: Path) -> None:
        places = [Place(tmp_path, (), unified=False), Place(tmp_path / "gone", ("cpu",), unified=False)]
        with pytest.raises(OSError, match="gone"):
            Groups(places).make("vm", LIMITS)
        assert list(tmp_path.iterdir()) == []

    def test_those_of_the_same_home_alone_are_swept(self, tmp_path: Path) -> None:
        proc, directory = unified(tmp_path)
        place = Place(directory, (), unified=True)
        ours, theirs = Groups([place], Path("/ours")), Groups([place], Path("/theirs"))
        left, other, used = ours.make("vm", LIMITS), theirs.make("vm", LIMITS), ours.make("vm", LIMITS)
        (used.directories[0] / "below").mkdir()  # stands for a process: it cannot be removed
        sweep(Path("/ours"), proc)
        assert [group.directories[0].exists() for group in (left, other, used)] == [False, True, True]

    def test_a_group_is_found_by_a_process_in_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        groups = Groups([Place(tmp_path, ("pids",), unified=False)])
        made = groups.make("vm", LIMITS)
        monkeypatch.setattr(cgroups, "_PROC", tmp_path)
        (tmp_path / "7").mkdir()
        (tmp_path / "7/cgroup").write_text(f"2:pids:/some/{made.directories[0].name}\n0::/\n")
        assert groups.find(7).directories == made.directories
        (tmp_path / "7/cgroup").write_text("2:pids:/some\n0::/\n")
        assert groups.find(7).directories == ()

    def test_who_enters_writes_to_what_is_opened(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.procs").touch()
        with contextlib.ExitStack() as opened:
            (fd,) = Group([tmp_path]).open(opened)
            os.write(fd, b"0")
        assert (tmp_path / "cgroup.procs").read_text() == "0"

    @pytest.mark.parametrize(
        ("name", "text", "killed"),
        [
            ("memory.events", "low 0\noom 3\noom_kill 1\n", True),
            ("memory.events", "low 0\noom 3\noom_kill 0\n", False),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ],
    )
    def test_it_is_known_whether_memory_ended_something(
        self, tmp_path: Path, name: str, text: str, killed: bool
    ) -> None:
        (tmp_path / name).write_text(text)
        assert Group([tmp_path]).read_passed() == (killed, False)

    def test_it_is_known_whether_something_could_not_be_started(self, tmp_path: Path) -> None:
        (tmp_path / "pids.events").write_text("max 3\n")
        assert Group([tmp_path]).read_passed() == (False, True)

    def test_no_group_says_nothing(self) -> None:
        group = Group(())
        assert group.read_passed() == (False, False)
        group.remove()
