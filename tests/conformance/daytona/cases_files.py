"""Daytona's SDK: files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    Daytona,
    FileDownloadRequest,
    FileUpload,
    Sandbox,
)
from daytona.common.errors import DaytonaBadRequestError, DaytonaError, DaytonaFileNotFoundError


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Daytona().create(CreateSandboxFromSnapshotParams(snapshot=os.environ["EMBERBOX_TEST_SNAPSHOT"]))
    made.process.exec("mkdir -p /tmp/files && rm -rf /tmp/files/*")
    yield made
    made.delete()


@pytest.fixture
def base(sandbox: Sandbox, request: pytest.FixtureRequest) -> str:
    path = f"{sandbox.get_user_home_dir().rstrip('/')}/cases/{request.node.name}"
    sandbox.fs.create_folder(path, "755")
    return path


def test_a_file_is_written_and_read_whole(sandbox: Sandbox, base: str) -> None:
    data = os.urandom(3 << 20)
    sandbox.fs.upload_file(data, f"{base}/deep/data")
    assert sandbox.fs.download_file(f"{base}/deep/data") == data
    assert b"".join(sandbox.fs.download_file_stream(f"{base}/deep/data")) == data
    sandbox.fs.upload_file_stream(b"streamed", f"{base}/streamed")
    assert sandbox.fs.download_file(f"{base}/streamed") == b"streamed"


def test_paths_that_are_not_absolute_begin_where_commands_do(sandbox: Sandbox) -> None:
    work = sandbox.get_work_dir()
    assert sandbox.process.exec("pwd").result.strip() == work
    sandbox.fs.upload_file(b"here", "cases-relative")
    assert sandbox.process.exec("cat cases-relative; rm cases-relative").result == "here"


def test_several_files_pass_in_one_form(sandbox: Sandbox, base: str, tmp_path: Path) -> None:
    names = [f"{base}/{name}" for name in ("a", 'b "quoted" \\.txt', "c é.txt")]
    (tmp_path / "local").write_bytes(names[0].encode())
    sandbox.fs.upload_files(
        [FileUpload(str(tmp_path / "local"), names[0]), *(FileUpload(name.encode(), name) for name in names[1:])]
    )
    found = sandbox.fs.download_files([FileDownloadRequest(name) for name in (*names, f"{base}/none")])
    assert [item.result for item in found[:3]] == [name.encode() for name in names]
    assert found[3].error_details is not None
    assert found[3].error_details.status_code == 404
    sandbox.fs.download_file(names[0], str(tmp_path / "here"))
    assert (tmp_path / "here").read_text() == names[0]


def test_what_is_not_there_is_not_found(sandbox: Sandbox, base: str) -> None:
    fs = sandbox.fs
    for ask in (fs.download_file, fs.get_file_info, fs.list_files, fs.delete_file):
        with pytest.raises(DaytonaFileNotFoundError) as failed:
            ask(f"{base}/none")  # type: ignore[operator]
        assert failed.value.status_code == 404, ask


def test_entries_are_listed_moved_and_deleted(sandbox: Sandbox, base: str) -> None:
    fs = sandbox.fs
    fs.create_folder(f"{base}/one/two", "750")
    fs.upload_file(b"text", f"{base}/one/two/three")
    fs.set_file_permissions(f"{base}/one/two/three", mode="600")
    (entry,) = fs.list_files(f"{base}/one")
    assert (entry.name, entry.path, entry.is_dir, entry.permissions) == ("two", f"{base}/one/two", True, "0750")
    assert [item.name for item in fs.list_files(f"{base}/one", depth=2)] == ["two", "three"]
    found = fs.get_file_info(f"{base}/one/two/three")
    assert (found.size, found.permissions, found.is_dir) == (4, "0600", False)
    fs.move_files(f"{base}/one/two/three", f"{base}/moved")
    with pytest.raises(DaytonaError, match="recursive=True"):
        fs.delete_file(f"{base}/one")
    fs.delete_file(f"{base}/one", recursive=True)
    assert [item.name for item in fs.list_files(base)] == ["moved"]


def test_texts_are_found_and_replaced(sandbox: Sandbox, base: str) -> None:
    files = {"a.py": b"x = 1\n# TODO: y\n", "b.py": b"# TODO\n# TODO\n", "sub/c.txt": b"nothing\n"}
    sandbox.fs.upload_files([FileUpload(data, f"{base}/{path}") for path, data in files.items()])
    found = sandbox.fs.find_files(base, "TODO")
    assert sorted((item.file, item.line, item.content) for item in found) == [
        (f"{base}/a.py", 2, "# TODO: y"),
        (f"{base}/b.py", 1, "# TODO"),
        (f"{base}/b.py", 2, "# TODO"),
    ]
    assert sandbox.fs.search_files(base, "*.py").files == [f"{base}/a.py", f"{base}/b.py"]
    changed = sandbox.fs.replace_in_files([f"{base}/b.py", f"{base}/none"], "TODO", "DONE $1 \\&")
    assert [item.success for item in changed] == [True, False]
    assert sandbox.fs.download_file(f"{base}/b.py") == b"# DONE $1 \\&\n# DONE $1 \\&\n"


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
def test_what_can_be_no_path_is_refused(sandbox: Sandbox, path: str) -> None:
    with pytest.raises(DaytonaBadRequestError):
        sandbox.fs.get_file_info(path)


def test_where_a_file_cannot_go_says_why(sandbox: Sandbox, base: str) -> None:
    with pytest.raises(DaytonaError, match="path is a directory") as failed:
        sandbox.fs.upload_file(b"", base)
    assert failed.value.status_code == 400
    with pytest.raises(DaytonaBadRequestError, match="mode must be"):
        sandbox.fs.create_folder(f"{base}/other", "rwx")
