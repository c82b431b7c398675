"""The mending of gVisor, on files that stand for programs.

tests/vm/test_vm_event_polls.py and tests/vm/test_vm_blocking_calls.py have the real one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from emberbox.host.runsc import mending
from emberbox.host.runsc.mending import Change, Program, is_mended, mend
from emberbox.model.errors import HostError

CONTENT = b"program" * 1000
CHANGES = (Change(700, b"prog", b"Xrog"), Change(1400, b"pr", b"pY"))
MENDED = CONTENT[:700] + b"X" + CONTENT[701:1401] + b"Y" + CONTENT[1402:]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runsc"
    path.write_bytes(CONTENT)
    path.chmod(0o755)
    known = Program(hashlib.sha256(CONTENT).hexdigest(), CHANGES)
    monkeypatch.setattr(mending, "PROGRAMS", (known,))
    return path


def test_a_known_program_is_changed_where_it_must_be_and_once(program: Path) -> None:
    before = program.stat().st_ino
    mend(program)
    assert program.read_bytes() == MENDED
    assert program.stat().st_mode & 0o777 == 0o755
    assert is_mended(program, "20240729.0")
    mended = program.stat().st_ino
    assert mended != before  # who runs the file of before goes on with it
    mend(program)
    assert program.stat().st_ino == mended
    assert [path.name for path in program.parent.iterdir()] == ["runsc"]


def test_what_an_earlier_release_has_mended_in_part_gets_the_rest(program: Path) -> None:
    program.write_bytes(CONTENT[:700] + b"X" + CONTENT[701:])
    assert not is_mended(program, "20240729.0")
    mend(program)
    assert program.read_bytes() == MENDED


def test_another_program_stays_as_it_is(program: Path) -> None:
    other = CONTENT + b"!"
    program.write_bytes(other)
    mend(program)
    assert program.read_bytes() == other
    assert not is_mended(program, "20240729.0")


def test_a_short_file_is_no_program(program: Path) -> None:
    program.write_bytes(b"")
    mend(program)
    assert not is_mended(program, "")


@pytest.mark.parametrize(
    ("version", "is_new"),
    [("20260601.0", True), ("release-20270101.1", True), ("20260525.0", False), ("1.2", False), ("", False)],
)
def test_releases_since_then_need_nothing(program: Path, version: str, is_new: bool) -> None:
    assert is_mended(program, version) is is_new


def test_what_cannot_be_written_leaves_the_program_whole(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HostError, match="cannot be mended: No space left"):
        mend(program)
    assert program.read_bytes() == CONTENT
    assert [path.name for path in program.parent.iterdir()] == ["runsc"]
