"""What the adapters have in common, with the shell of this machine."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from emberbox_sdk.integrations import shared


def write(path: Path, data: bytes, *, append: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(shared.writing(str(path), append=append), input=data, capture_output=True)


@pytest.mark.parametrize(
    ("extra", "package"), [("deepagents", "deepagents"), ("openai-agents", "agents"), ("ray", "ray")]
)
def test_what_to_install_is_told(extra: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"emberbox_sdk.integrations.{extra.replace('-', '_')}")
    assert caught.value.__notes__ == [f"`pip install 'emberbox-sdk[{extra}]'` installs what is missing"]


def test_a_file_is_written_with_the_directories_above_it(tmp_path: Path) -> None:
    place = tmp_path / "a" / "-b c" / "'file'"
    assert write(place, b"\xff\x00").returncode == 0
    assert place.read_bytes() == b"\xff\x00"
    assert write(place, b"more", append=True).returncode == 0
    assert place.read_bytes() == b"\xff\x00more"


def test_a_file_that_is_there_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("long before")
    (tmp_path / "real").chmod(0o750)
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o750


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = write(tmp_path, b"x")
    assert done.returncode
    assert b"s a directory" in done.stderr
    (tmp_path / "file").touch()
    assert write(tmp_path / "file" / "below", b"x").returncode


def test_a_directory_is_everybodys_only_when_it_is_new(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o700)
    for name in ("old", "new/one"):
        subprocess.run(shared.making_directory(str(tmp_path / name)), check=True)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("old", "new/one", "new")]
    assert modes[:2] == [0o700, 0o777]
    assert modes[2] != 0o777


def test_both_outputs_are_one_in_their_order() -> None:
    program = shared.merged(["/bin/sh", "-c"], "echo 1; echo '2 $0' >&2; echo 3; exit 4")
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n2 $0\n3\n", "", 4)


@pytest.mark.parametrize(("data", "given"), [(b"text \xe2\x82\xac\n", "text €\n"), (b"", ""), (b"\xff", b"\xff")])
def test_text_is_sent_as_text(data: bytes, given: str | bytes) -> None:
    assert shared.as_input(data) == given


@pytest.mark.parametrize(("text", "whole"), [("", "end\n"), ("a", "a\nend\n"), ("a\n", "a\nend\n")])
def test_a_line_is_put_behind(text: str, whole: str) -> None:
    assert shared.with_last_line(text, "end") == whole
