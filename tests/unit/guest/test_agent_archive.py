"""The agent's tar archives: its own C code, run here with a sanitizer, against Python's tarfile."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.compiling import compile_c

DRIVER = Path(__file__).with_name("agent_archive_driver.c")
LONG = "long-name-" * 14

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the agent's code: `run("pack", path)`, `run("unpack", path, archive)`."""
    program = tmp_path_factory.mktemp("agent") / "archive"
    compile_c(program, [DRIVER, *map(Path, ("archive.c", "pack.c", "unpack.c"))])

    def run(work: str, path: Path | str, archive: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([program, work, str(path)], input=archive, capture_output=True, timeout=60)

    return run


def make_tree(root: Path) -> Path:
    """Make a tree with everything that is kept."""
    tree = root / "tree"
    (tree / LONG / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(os.urandom(200_000))
    (tree / "file").chmod(0o640)
    (tree / "empty").touch()
    (tree / LONG / "sub" / ("f" * 90)).write_text("deep")
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o4755)
    (tree / "absolute").symlink_to("/etc/passwd")
    (tree / "relative").symlink_to("file")
    (tree / "dangling").symlink_to("x" * 300)
    os.mkfifo(tree / "fifo", 0o620)
    (tree / "grüße λ").write_text("names are bytes")
    (tree / LONG).chmod(0o2750)
    os.utime(tree / "file", (1_000_000_000, 1_000_000_000))
    return tree


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Return kind, mode, content and link of everything in a tree."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        link = path.readlink() if path.is_symlink() else ""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, content, link)
    return found


def test_a_tree_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    tree, target = make_tree(tmp_path), tmp_path / "target"
    target.mkdir()
    packed = run("pack", tree)
    assert (packed.returncode, packed.stderr) == (0, b"")
    assert run("unpack", target, packed.stdout).returncode == 0
    assert describe(target / "tree") == describe(tree)
    assert (target / "tree" / "file").stat().st_mtime == 1_000_000_000


def test_a_target_that_is_not_there_becomes_the_name(run: Run, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    assert run("unpack", tmp_path / "renamed", run("pack", tree).stdout).returncode == 0
    assert describe(tmp_path / "renamed") == describe(tree)


def test_the_contents_of_a_directory_fill_another(run: Run, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tmp_path / "there").mkdir()
    for target in ("there", "new"):
        assert run("unpack", tmp_path / target, run("pack", f"{tree}/.").stdout).returncode == 0
        assert describe(tmp_path / target) == describe(tree)


def test_pythons_tarfile_reads_what_the_agent_packs(run: Run, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(run("pack", tree).stdout)) as archive:
        members = {entry.name.removeprefix("tree").lstrip("/"): entry for entry in archive}
        assert set(members) - {""} == set(describe(tree))
        assert members["dangling"].linkname == "x" * 300
        assert members["tool"].mode == 0o4755
        content = archive.extractfile(members["file"])
        assert content is not None
        assert content.read() == (tree / "file").read_bytes()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_agent_unpacks_what_pythons_tarfile_packs(run: Run, tmp_path: Path, form: int) -> None:
    tree = make_tree(tmp_path)
    if form == tarfile.USTAR_FORMAT:  # which has no long links
        (tree / "dangling").unlink()
    os.link(tree / "file", tree / "hard")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        archive.add(tree, "tree")
    assert run("unpack", tmp_path / "target", packed.getvalue()).returncode == 0
    assert describe(tmp_path / "target") == describe(tree)
    assert (tmp_path / "target" / "hard").samefile(tmp_path / "target" / "file")


def test_a_link_is_packed_as_a_link_or_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    for work, kind in (("pack", tarfile.SYMTYPE), ("follow", tarfile.REGTYPE)):
        with tarfile.open(fileobj=io.BytesIO(run(work, tmp_path / "link").stdout)) as archive:
            (entry,) = archive.getmembers()
            assert (entry.name, entry.type) == ("link", kind)


def make_archive(*entries: tuple[str, bytes, str | bytes], end: bool = True) -> bytes:
    """Return an archive of (name, type, content or target)."""
    packed = b""
    for name, kind, payload in entries:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
        content = b"" if isinstance(payload, str) else payload
        entry.linkname = payload if isinstance(payload, str) else ""
        entry.size = len(content)
        packed += entry.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)
    return packed + (bytes(1024) if end else b"")


FILE, DIRECTORY, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (make_archive(("../escaped", FILE, b"x")), errno.EINVAL),
        (make_archive(("a/../../escaped", FILE, b"x")), errno.EINVAL),
        (make_archive(("out", LINK, ".."), ("out/escaped", FILE, b"x")), errno.EXDEV),
        (make_archive(("out", LINK, "/tmp"), ("out/escaped", FILE, b"x")), errno.EXDEV),
        (make_archive(("escaped", HARD, "../secret")), errno.EINVAL),
        (make_archive(("out", LINK, ".."), ("escaped", HARD, "out/secret")), errno.EXDEV),
        (make_archive(("zero", tarfile.CHRTYPE, b"")), errno.ENOTSUP),
        (make_archive(("sparse", tarfile.GNUTYPE_SPARSE, b"")), errno.ENOTSUP),
        (make_archive(("x/y", FILE, b"x")), errno.ENOENT),
        (make_archive(("f", FILE, b"x"), ("f/y", FILE, b"x")), errno.ENOTDIR),
        (make_archive(("d", DIRECTORY, b""), ("d", FILE, b"x")), errno.EISDIR),
        (make_archive(("f", FILE, b"x"), end=False), errno.EBADMSG),
        (make_archive(("f", FILE, b"x" * 3000))[:2000], errno.EBADMSG),
        (b"no archive at all, but of some length" * 50, errno.EBADMSG),
        (b"", errno.EBADMSG),
    ],
)
def test_hostile_and_damaged_archives_are_refused_and_touch_nothing_else(
    run: Run, tmp_path: Path, archive: bytes, code: int
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "secret").write_text("secret")
    done = run("unpack", target, archive)
    assert done.returncode == code, done.stderr
    assert done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"target", "secret"}
    assert not list(target.rglob("escaped"))
    assert not list(target.rglob(".emberbox*"))


def test_a_file_is_replaced_only_when_it_is_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    assert run("unpack", tmp_path, make_archive(("f", FILE, b"x" * 9000))[:4000]).returncode == errno.EBADMSG
    assert (tmp_path / "f").read_text() == "before"
    assert run("unpack", tmp_path, make_archive(("f", FILE, b"after"))).returncode == 0
    assert (tmp_path / "f").read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_link_at_the_target_is_replaced_and_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").symlink_to("../secret")
    assert run("unpack", tmp_path / "d", make_archive(("f", FILE, b"new"))).returncode == 0
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "d" / "f").is_symlink()


def test_several_files_need_a_directory(run: Run, tmp_path: Path) -> None:
    done = run("unpack", tmp_path / "new", make_archive(("a", FILE, b""), ("b", FILE, b"")))
    assert done.returncode == errno.ENOTDIR


@pytest.mark.parametrize(("path", "code"), [("missing", errno.ENOENT), ("", errno.ENOENT), ("file/x", errno.ENOTDIR)])
def test_what_cannot_be_packed_is_said(run: Run, tmp_path: Path, path: str, code: int) -> None:
    (tmp_path / "file").touch()
    done = run("pack", tmp_path / path if path else "")
    assert done.returncode == code
    assert done.stderr


@pytest.mark.parametrize("path", ["missing/", "missing/new", "file/"])
def test_what_cannot_be_unpacked_to_is_said(run: Run, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    done = run("unpack", f"{tmp_path}/{path}", make_archive(("f", FILE, b"")))
    assert done.returncode in (errno.ENOENT, errno.ENOTDIR)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_makes_the_agent_crash_or_leave_its_directory(run: Run, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a good archive are changed at random: whatever happens, it ends with an errno."""
    good = bytearray(
        make_archive((LONG + "/", DIRECTORY, b""), (f"{LONG}/f", FILE, b"x" * 600), ("l", LINK, "y" * 200))
    )
    changes = data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=8))
    for at, value in changes:
        good[at] = value
    target = tmp_path / "target"
    target.mkdir(exist_ok=True)
    done = run("unpack", target, bytes(good))
    assert 0 <= done.returncode < 128
    assert {path.name for path in tmp_path.iterdir()} <= {"target"}
