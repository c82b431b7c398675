"""What images and the steps of builds get so that they trust the operator's authorities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emberbox.images.authorities import IN_IMAGE, with_authorities, write_file, write_runtime
from emberbox.images.randomness import AddedFile, Additions
from emberbox.images.step_runtime import VARIABLES

OTHERS = Additions((AddedFile("/x", b"x"),), (("OPENSSL_CONF", "/x"),), ("NOTE",))


def test_an_image_gets_a_file_and_the_variables_that_name_it() -> None:
    """Beside what it gets anyhow; nothing where the operator has no authorities."""
    added = with_authorities(OTHERS, "PEM")
    assert added.files == (*OTHERS.files, AddedFile(IN_IMAGE, b"PEM"))
    assert dict(added.environment) == {"OPENSSL_CONF": "/x", **dict.fromkeys(VARIABLES, IN_IMAGE)}
    assert added.notes == OTHERS.notes
    assert with_authorities(OTHERS, "") == OTHERS


def test_the_file_can_be_read_by_all(tmp_path: Path) -> None:
    path = write_file(tmp_path, "PEM")
    assert path.read_text() == "PEM"
    assert path.stat().st_mode & 0o777 == 0o644


def test_containers_alone_go_by_the_runtime_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is asked of runc, runc is asked."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "runc").write_text('#!/bin/sh\necho "runc $*"\n')
    (real / "runc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{real}:/usr/bin:/bin")
    (tmp_path / "python").write_text('#!/bin/sh\necho "python $*"\n')
    (tmp_path / "python").chmod(0o755)
    runtime = write_runtime(tmp_path, tmp_path / "a.pem", str(tmp_path / "python"))

    def run(*arguments: str) -> str:
        return subprocess.run([runtime, *arguments], check=True, capture_output=True, text=True).stdout

    assert run("--root", "/r", "delete", "x") == "runc --root /r delete x\n"
    for kind in ("run", "create"):
        said = run("--root", "/r", kind, "--bundle", "/b", "x")
        assert said.startswith("python -I -S ")
        assert said.endswith(f"step_runtime.py {tmp_path}/a.pem {real}/runc --root /r {kind} --bundle /b x\n")


def test_a_machine_without_runc_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="runc"):
        write_runtime(tmp_path, tmp_path / "a.pem", sys.executable)
