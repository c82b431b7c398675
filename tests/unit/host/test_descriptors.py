"""Taking over an open file of another process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emberbox.host.descriptors import take_descriptor
from emberbox.model.errors import HostError


def test_an_open_file_is_the_same_after_its_process_has_ended(tmp_path: Path) -> None:
    """It is the open file itself: what was read from it before has been read."""
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")
    with path.open() as file:
        child = subprocess.Popen(
            ["sh", "-c", "read line; echo $line; exec sleep 600"], stdin=file, stdout=subprocess.PIPE
        )
    assert child.stdout is not None
    assert child.stdout.readline() == b"one\n"
    taken = take_descriptor(child.pid, os.fspath(path))
    child.kill()
    child.communicate()
    with os.fdopen(taken, "rb") as file_again:
        assert file_again.read() == b"two\n"


def test_a_file_that_is_not_open_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not open"):
        take_descriptor(os.getpid(), os.fspath(tmp_path / "none"))
    with pytest.raises(HostError, match="not open"):
        take_descriptor(1 << 22, "/dev/null")
