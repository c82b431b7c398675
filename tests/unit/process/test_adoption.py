"""Finding processes of an earlier server again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.process.adoption import ENDED_UNSEEN, end_process, error_logs, find_process, read_note, write_note


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a note and a log, as a server leaves it."""
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"], stderr=log, start_new_session=True
        )
    write_note(tmp_path / "note", child.pid, slot=7)
    yield child
    child.kill()
    child.wait()


async def test_a_noted_process_is_found_and_its_end_is_seen(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = find_process(tmp_path / "note", tmp_path / "log")
    assert found is not None
    assert (found.pid, found.returncode) == (sleeper.pid, None)
    await found.kill_group()
    assert await found.wait() == ENDED_UNSEEN == found.returncode
    assert sleeper.wait() == -signal.SIGKILL
    assert find_process(tmp_path / "note", tmp_path / "log") is None


async def test_a_polite_end(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = find_process(tmp_path / "note", tmp_path / "log")
    assert found is not None
    found.terminate()
    await found.wait()
    assert sleeper.wait() == -signal.SIGTERM
    found.terminate()
    await found.kill_group()


def test_a_copy_of_the_directory_finds_nothing(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=lambda *_: ["copy"])
    assert find_process(tmp_path / "copy/note", tmp_path / "copy/log") is None


def test_another_process_with_the_same_id_is_not_taken(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    noted = json.loads((tmp_path / "note").read_text())
    (tmp_path / "note").write_text(json.dumps(noted | {"started": noted["started"] - 1}))
    assert find_process(tmp_path / "note", tmp_path / "log") is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "7", '{"pid": "x", "started": 1}', '{"pid": 1'])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    assert read_note(tmp_path / "note") is None
    assert find_process(tmp_path / "note", tmp_path / "log") is None


def test_a_note_keeps_what_it_is_given(tmp_path: Path) -> None:
    write_note(tmp_path / "note", os.getpid(), slot=7, uid=None)
    note = read_note(tmp_path / "note")
    assert note is not None
    assert (note.pid, note.more) == (os.getpid(), {"slot": 7, "uid": None})


def test_a_process_without_a_note_is_found_by_its_log(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "log").unlink()
    assert [pid for pid, path in error_logs() if path.startswith(str(tmp_path))] == [sleeper.pid]
    end_process(sleeper.pid)
    assert sleeper.wait() == -signal.SIGKILL
    end_process(sleeper.pid)
