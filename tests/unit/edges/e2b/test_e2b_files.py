"""E2B's own SDK against the edge: files, signed URLs, watches."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    CommandExitException,
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    Sandbox,
    SandboxException,
)

from emberbox.edges.sandboxes.entries import normalise, read_entries
from support.e2b_world import E2bPlane
from support.waiting import wait_for_async

Wait = Callable[..., Any]


@pytest.fixture
def home(sandbox: Sandbox, e2b: E2bPlane) -> Path:
    return e2b.local.home(sandbox.sandbox_id)


async def test_what_is_written_is_read_again(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    info = await wait(sandbox.files.write, "deep/er/ä b.txt", "hellö\n")

    assert (info.name, info.type, info.path) == ("ä b.txt", FileType.FILE, f"{home}/deep/er/ä b.txt")
    assert await wait(sandbox.files.read, "~/deep/er/ä b.txt") == "hellö\n"
    assert await wait(lambda: sandbox.files.read(info.path, format="bytes")) == "hellö\n".encode()
    await wait(sandbox.files.write, info.path, "")
    assert await wait(sandbox.files.read, info.path) == ""


async def test_large_files_pass_whole_in_every_way(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    data = os.urandom(5 << 20)
    ways: list[dict[str, Any]] = [{}, {"use_octet_stream": True}, {"gzip": True}]
    for number, way in enumerate(ways):
        await wait(lambda n=number, w=way: sandbox.files.write(f"large{n}", data, **w))
        assert (home / f"large{number}").read_bytes() == data
    await wait(sandbox.files.write, "streamed", io.BytesIO(data))
    assert await wait(lambda: b"".join(sandbox.files.read("streamed", format="stream"))) == data


async def test_several_files_are_written_at_once(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    files = [{"path": f"d/{number}", "data": str(number)} for number in range(5)]

    written = await wait(sandbox.files.write_files, files)

    assert [info.path for info in written] == [f"{home}/d/{number}" for number in range(5)]
    assert [(home / "d" / str(number)).read_text() for number in range(5)] == list("01234")
    assert await wait(sandbox.files.write_files, []) == []


async def test_what_cannot_be_read_or_written_says_why(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    with pytest.raises(FileNotFoundException, match="file not found"):
        await wait(sandbox.files.read, "none")
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        await wait(sandbox.files.read, "/tmp")
    (home / "file").touch()
    with pytest.raises(SandboxException):
        await wait(sandbox.files.write, "file/below", "x")


async def test_entries_tell_what_stat_tells(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    (home / "file").write_text("12345")
    (home / "file").chmod(0o640)
    (home / "link").symlink_to("file")

    found = await wait(sandbox.files.get_info, "file")

    assert (found.name, found.type, found.path, found.size) == ("file", FileType.FILE, f"{home}/file", 5)
    assert (stat.S_IMODE(found.mode), found.permissions) == (0o640, "-rw-r-----")
    assert abs(found.modified_time.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=5)
    link = await wait(sandbox.files.get_info, "link")
    assert (link.type, link.symlink_target) == (FileType.SYMLINK, "file")
    assert await wait(sandbox.files.exists, "file")
    assert not await wait(sandbox.files.exists, "none")
    assert (await wait(sandbox.files.get_info, "/")).path == "/"


async def test_lists_go_as_deep_as_is_asked(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    (home / "a/b/c").mkdir(parents=True)
    (home / "a/file\nwith a line").touch()

    def paths(depth: int) -> list[str]:
        return [item.path.removeprefix(f"{home}/") for item in sandbox.files.list("a", depth=depth)]

    assert await wait(paths, 1) == ["a/b", "a/file\nwith a line"]
    assert await wait(paths, 2) == ["a/b", "a/b/c", "a/file\nwith a line"]
    assert await wait(sandbox.files.list, "a/b/c") == []
    with pytest.raises(FileNotFoundException):
        await wait(sandbox.files.list, "none")
    with pytest.raises(InvalidArgumentException):
        await wait(sandbox.files.list, "/etc/passwd")


async def test_directories_are_made_moved_and_removed(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    assert await wait(sandbox.files.make_dir, "x/y")
    assert not await wait(sandbox.files.make_dir, "x/y")
    (home / "x/y/file").write_text("content")
    moved = await wait(sandbox.files.rename, "x/y", "z/new")
    assert moved.path == f"{home}/z/new"
    assert (home / "z/new/file").read_text() == "content"
    with pytest.raises(FileNotFoundException):
        await wait(sandbox.files.rename, "x/y", "w")
    with pytest.raises(InvalidArgumentException, match="in the way"):
        await wait(sandbox.files.rename, "z/new/file", "x")
    await wait(sandbox.files.remove, "z")
    assert not (home / "z").exists()
    await wait(sandbox.files.remove, "z")


async def test_names_are_never_code(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    name = "$(touch pwned); 'x' `id` \"y\" --help -rf"

    await wait(sandbox.files.write, name, "kept")

    assert [entry.name for entry in await wait(sandbox.files.list, ".")] == [name]
    assert await wait(sandbox.files.read, name) == "kept"


async def test_signed_urls_open_one_file_and_no_more(sandbox: Sandbox, e2b: E2bPlane, home: Path, wait: Wait) -> None:
    (home / "file").write_text("signed")
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    async with httpx.AsyncClient(headers=headers) as client:
        url = await wait(lambda: sandbox.download_url("file", use_signature_expiration=60))
        assert (await client.get(url)).text == "signed"
        assert (await client.get(url.replace("path=file", "path=other"))).status_code == 401
        assert (await client.post(url, content=b"x")).status_code == 401
        assert (await client.get(sandbox.download_url("file", use_signature_expiration=-5))).status_code == 401
        upload = await wait(sandbox.upload_url, "up")
        assert (await client.post(upload, files={"file": ("ignored", b"uploaded")})).status_code == 200
    assert (home / "up").read_text() == "uploaded"


async def test_a_malformed_upload_is_refused(sandbox: Sandbox, e2b: E2bPlane) -> None:
    headers = {
        "E2b-Sandbox-Id": sandbox.sandbox_id,
        "E2b-Sandbox-Port": "49983",
        "X-Access-Token": sandbox._envd_access_token or "",
    }
    cut = gzip.compress(os.urandom(1000))[:-20]
    async with httpx.AsyncClient(base_url=e2b.url, headers=headers) as client:
        for sent in (
            {"headers": {"Content-Type": "multipart/form-data"}, "content": b"x"},
            {"headers": {"Content-Type": "multipart/form-data; boundary=b"}, "content": b"--b\r\n\r\ncut"},
            {"headers": {"Content-Encoding": "gzip"}, "content": cut},
            {"headers": {"X-Metadata-A": "b"}, "content": b"x"},
        ):
            answer = await client.post("/files?path=x", **sent)  # type: ignore[arg-type]
            assert answer.status_code == 400, answer.text


# --- watches


async def test_a_watch_tells_what_happens_below_a_directory(sandbox: Sandbox, home: Path, wait: Wait) -> None:
    (home / "w/sub").mkdir(parents=True)
    (home / "w/old").write_text("old")
    handle = await wait(lambda: sandbox.files.watch_dir("w", recursive=True))
    (home / "w/new").touch()
    (home / "w/sub/deep").write_text("x")
    (home / "w/old").rename(home / "w/renamed")
    seen: list[tuple[str, FilesystemEventType]] = []

    async def has_seen(*wanted: tuple[str, FilesystemEventType]) -> None:
        for _ in range(200):
            seen.extend((event.name, event.type) for event in await wait(handle.get_new_events))
            if set(wanted) <= set(seen):
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"only {seen}")

    kinds = FilesystemEventType
    await has_seen(
        ("new", kinds.CREATE), ("sub/deep", kinds.CREATE), ("sub/deep", kinds.WRITE),
        ("old", kinds.RENAME), ("renamed", kinds.CREATE),
    )  # fmt: skip
    (home / "w/new").write_text("more")
    (home / "w/renamed").chmod(0o600)
    (home / "w/sub/deep").unlink()
    await has_seen(("new", kinds.WRITE), ("renamed", kinds.CHMOD), ("sub/deep", kinds.REMOVE))
    await wait(handle.stop)
    with pytest.raises(SandboxException):
        await wait(handle.get_new_events)


async def test_a_watch_over_nothing_is_refused(sandbox: Sandbox, wait: Wait) -> None:
    with pytest.raises(FileNotFoundException):
        await wait(sandbox.files.watch_dir, "none")


async def test_the_asynchronous_sdk_is_told_as_it_happens(e2b: E2bPlane) -> None:
    sandbox = await AsyncSandbox.create()
    home = e2b.local.home(sandbox.sandbox_id)
    seen: list[str] = []
    handle = await sandbox.files.watch_dir(".", on_event=lambda event: seen.append(event.name))
    (home / "new").touch()
    await wait_for_async("the event comes", lambda: "new" in seen)
    await handle.stop()


# --- terminals and figures


async def test_a_terminal_has_size_and_input(sandbox: Sandbox, wait: Wait) -> None:
    from e2b import PtySize

    heard = bytearray()
    handle = await wait(lambda: sandbox.pty.create(PtySize(rows=30, cols=100)))
    await wait(sandbox.pty.resize, handle.pid, PtySize(rows=40, cols=120))
    await wait(sandbox.pty.send_stdin, handle.pid, b"stty size; tty; exit 7\n")
    with pytest.raises(CommandExitException, match="code 7"):
        await wait(lambda: handle.wait(on_pty=heard.extend))

    assert b"40 120" in heard
    assert b"/dev/pts/" in heard


async def test_a_terminal_is_killed(sandbox: Sandbox, wait: Wait) -> None:
    from e2b import PtySize

    handle = await wait(lambda: sandbox.pty.create(PtySize(rows=24, cols=80)))
    assert await wait(sandbox.pty.kill, handle.pid)
    assert not await wait(sandbox.pty.kill, handle.pid)


async def test_figures_are_those_of_the_machine(sandbox: Sandbox, wait: Wait) -> None:
    (figures,) = await wait(sandbox.get_metrics)

    assert figures.mem_total > figures.mem_used > 0
    assert figures.disk_total > figures.disk_used > 0
    assert figures.cpu_count == os.cpu_count()
    assert 0 <= figures.cpu_used_pct <= 100
    assert abs(figures.timestamp.timestamp() - time.time()) < 300


# --- what scripts write


def test_entries_are_read_whatever_they_are_called() -> None:
    listed = (
        b"81a4 5 root UNKNOWN 7 1700000000/2023-11-14 22:13:20.250000000 +0000//home//x/\n/odd\xff name//\n"
        b"a1ff 3 me us 8 1700000001/2023-11-14 22:13:21.000000000 +0000//l//\n"
        b"///\n/l\0//\n\x0041ed\0"
    )

    file, link = read_entries(listed)

    assert (file.path, file.modified, file.group) == ("/home/x/\n/odd� name", "1700000000.250000000", "UNKNOWN")
    assert (link.path, link.target, link.target_mode) == ("/l", "//\n", 0o040755)


def test_paths_are_normalised_as_far_as_they_can_be() -> None:
    assert [normalise(path) for path in ("//a//b/", "a/./b", "", "/", "~/x", "../up")] == [
        "/a/b", "a/b", ".", "/", "~/x", "../up",
    ]  # fmt: skip
