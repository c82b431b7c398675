"""What microVMs cost, read from a process table that is made here."""

from __future__ import annotations

from pathlib import Path

from emberbox.cli.processes import VmmUse, measure_vmms

MIB_KB = 1024


def write_process(proc: Path, pid: int, name: str, parent: int, mebibytes: int = 1, state: str = "S") -> None:
    """Write what proc(5) says of a process."""
    directory = proc / str(pid)
    directory.mkdir()
    (directory / "stat").write_text(f"{pid} ({name}) {state} {parent} 1 1 0")
    (directory / "smaps_rollup").write_text(f"header\nRss: 99999 kB\nPss:    {mebibytes * MIB_KB} kB\n")


def test_a_sandbox_is_one_vmm_with_the_memory_of_all_that_it_has_started(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "python", 1, 100)
    write_process(tmp_path, 20, "keeper", 10, 1)
    write_process(tmp_path, 21, "keeper", 20, 1)
    write_process(tmp_path, 22, "exe", 21, 30)
    write_process(tmp_path, 23, "exe", 22, 4)
    write_process(tmp_path, 24, "runsc", 21, 8, state="Z")
    write_process(tmp_path, 30, "keeper", 10, 2)
    assert measure_vmms(10, tmp_path) == VmmUse(2, 38 << 20)


def test_both_engines_are_counted_and_nobody_elses(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "python", 1, 100)
    write_process(tmp_path, 11, "qemu-system-x86", 10, 50)
    write_process(tmp_path, 12, "envoy", 10, 60)
    write_process(tmp_path, 13, "keeper", 10, 7)
    write_process(tmp_path, 99, "keeper", 1, 7)
    assert measure_vmms(10, tmp_path) == VmmUse(2, 57 << 20)


def test_none_is_told_as_none(tmp_path: Path) -> None:
    assert str(measure_vmms(10, tmp_path)) == "0 VMM processes, 0 MiB"
