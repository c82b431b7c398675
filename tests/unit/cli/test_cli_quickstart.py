"""The parts of the quickstart that need no server; the whole of it is among the conformance tests."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from emberbox.cli.processes import VmmUse, measure_vmms
from emberbox.cli.progress import Timeline
from emberbox.cli.quickstart import EXAMPLES, Example, pack


@pytest.mark.parametrize("example", list(Example))
def test_every_example_has_a_dockerfile_at_the_root_of_its_zip(example: Example) -> None:
    with zipfile.ZipFile(io.BytesIO(pack(EXAMPLES / example))) as archive:
        assert "Dockerfile" in archive.namelist()
        assert archive.read("Dockerfile") == (EXAMPLES / example / "Dockerfile").read_bytes()


def test_packing_keeps_directories_and_modes(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "start").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "start").chmod(0o755)
    with zipfile.ZipFile(io.BytesIO(pack(tmp_path))) as archive:
        assert archive.namelist() == ["bin/", "bin/start"]
        assert archive.getinfo("bin/start").external_attr >> 16 & 0o777 == 0o755


@pytest.fixture
def vmm_process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child of a child that goes by the name of a VMM."""
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy(shutil.which("sleep") or "", program)
    child = subprocess.Popen(["sh", "-c", f"{program} 60 & echo; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    for pid in _children(child.pid):
        os.kill(int(pid), signal.SIGTERM)
    child.wait()
    child.stdout.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_vmms_below_a_server_are_counted_with_their_memory(vmm_process: subprocess.Popen[bytes]) -> None:
    deadline = 200
    while (use := measure_vmms(vmm_process.pid)).count == 0 and deadline:  # the shell may not have started it yet
        deadline -= 1
    assert use.count == 1
    assert use.memory_bytes > 0
    assert measure_vmms(os.getpid()).count >= 1  # grandchildren count; other tests' servers may run below us too


def test_vmms_of_others_are_not_counted(vmm_process: subprocess.Popen[bytes]) -> None:
    assert measure_vmms(int(_children(vmm_process.pid)[0])) == VmmUse(0, 0)


def test_a_timeline_shows_steps_and_ends_with_a_table() -> None:
    output = io.StringIO()
    timeline = Timeline(Console(file=output, width=100))
    with timeline.step("first") as step:
        step.note = "with [brackets]"
    with pytest.raises(ValueError, match="broken"), timeline.step("failing"):
        raise ValueError("broken")
    with timeline.step("half done") as step:
        step.failed = True
    timeline.show_table()
    text = output.getvalue()
    assert "✓ first" in text
    assert "with [brackets]" in text
    assert "✗ failing" in text
    assert "✗ half done" in text
    table = text[text.index("what took how long") :]
    assert "first" in table
    assert "failing" not in table
    assert "half done" not in table
