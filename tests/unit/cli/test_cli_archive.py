"""Local files of `emberbox cp`: what comes from a microVM is not trusted."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from emberbox.cli.archive import _Unpacker, pack, unpack
from emberbox.cli.cp import split
from emberbox.model.errors import HostError

FILE, DIRECTORY, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def make_archive(*entries: tuple[str, bytes, str]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            entry.uid, entry.gid = os.getuid(), os.getgid()
            if kind in (LINK, HARD):
                entry.linkname = content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return io.BytesIO(packed.getvalue())


def make_tree(root: Path) -> Path:
    tree = root / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "f").write_text("content")
    (tree / "d" / "f").chmod(0o640)
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "d").chmod(0o750)
    return tree


def copy(source: str, destination: str) -> None:
    sink = io.BytesIO()
    pack(source, sink)
    unpack(io.BytesIO(sink.getvalue()), destination)


@pytest.mark.parametrize(
    ("suffix", "destination", "result"),
    [("", "there", "there/tree"), ("", "new", "new"), ("/.", "there", "there"), ("/.", "new", "new")],
)
def test_a_tree_is_copied_as_cp_does(tmp_path: Path, suffix: str, destination: str, result: str) -> None:
    tree = make_tree(tmp_path)
    (tmp_path / "there").mkdir()
    copy(f"{tree}{suffix}", str(tmp_path / destination))
    copied = tmp_path / result
    assert (copied / "d" / "f").read_text() == "content"
    assert (copied / "d" / "f").stat().st_mode & 0o777 == 0o640
    assert (copied / "d").stat().st_mode & 0o777 == 0o750
    assert (copied / "link").readlink() == Path("/etc/passwd")


def test_a_file_gets_the_name_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    copy(str(tmp_path / "f"), str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "content"


@pytest.mark.parametrize(
    "archive",
    [
        make_archive(("../escaped", FILE, "x")),
        make_archive(("/escaped", FILE, "x")),
        make_archive(("a", DIRECTORY, ""), ("a/../../escaped", FILE, "x")),
        make_archive(("out", LINK, ".."), ("out/escaped", FILE, "x")),
        make_archive(("out", LINK, "/tmp"), ("out/emberbox-escaped", FILE, "x")),
        make_archive(("out", LINK, "."), ("out", DIRECTORY, "")),
        make_archive(("escaped", HARD, "../secret")),
        make_archive(("zero", tarfile.CHRTYPE, "")),
        make_archive(("x/y", FILE, "x")),
        io.BytesIO(b"no archive" * 100),
    ],
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, archive: io.BytesIO) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "secret").write_text("secret")
    archive.seek(0)
    with pytest.raises(HostError):
        unpack(archive, str(target))
    assert {path.name for path in tmp_path.iterdir()} == {"target", "secret"}
    assert not list(target.rglob("escaped"))
    assert not Path("/tmp/emberbox-escaped").exists()


def test_a_file_over_a_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").symlink_to(tmp_path / "secret")
    unpack(make_archive(("f", FILE, "new")), str(tmp_path / "d"))
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "d" / "f").read_text() == "new"


def test_no_file_gets_the_power_of_its_owner(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        entry = tarfile.TarInfo("f")
        entry.mode, entry.uid, entry.gid = 0o6755, os.getuid(), os.getgid()
        opened.addfile(entry)
    unpack(io.BytesIO(archive.getvalue()), str(tmp_path))
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("destination", ["missing/new", "missing/"])
def test_a_missing_destination_is_said(tmp_path: Path, destination: str) -> None:
    with pytest.raises(HostError, match="no such directory here"):
        unpack(make_archive(("f", FILE, "x")), f"{tmp_path}/{destination}")


def test_several_files_need_a_directory(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="several files need a directory"):
        unpack(make_archive(("a", FILE, ""), ("b", FILE, "")), str(tmp_path / "new"))


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="there is no such file here"):
        pack(str(tmp_path / "missing"), io.BytesIO())


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("microvm-1:/a", ("microvm-1", "/a")),
        ("microvm-1:a:b", ("microvm-1", "a:b")),
        ("./a:b", None),
        ("/a:b", None),
        ("a/b:c", None),
        ("plain", None),
        (":x", None),
    ],
)
def test_a_microvm_is_told_from_a_local_path(argument: str, parts: tuple[str, str] | None) -> None:
    assert split(argument) == parts


def test_a_microvm_without_a_path_is_refused() -> None:
    with pytest.raises(HostError, match="which path"):
        split("microvm-1:")


class Endless(io.RawIOBase):
    """An archive's first header and then zeros without end; counts what is read."""

    def __init__(self, header: bytes) -> None:
        self.left = header
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        taken = self.left[:size].ljust(size, b"\0")
        self.left = self.left[size:]
        self.read_bytes += size
        return taken


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_name_of_any_size_fills_no_memory(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("name")
    entry.type, entry.size = kind, 384 << 20
    stream = Endless(entry.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(HostError, match="a name of 402653184 bytes"):
        unpack(stream, str(tmp_path))  # type: ignore[arg-type]
    assert stream.read_bytes < 1 << 20


def test_a_file_of_holes_is_not_copied(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("holes")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 512
    with pytest.raises(HostError, match="not copied"):
        unpack(io.BytesIO(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096)), str(tmp_path))


def test_names_about_names_come_to_an_end(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("name")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 100
    with pytest.raises(HostError, match="no archive"):
        unpack(io.BytesIO((entry.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5000), str(tmp_path))


def test_many_entries_are_not_all_remembered(tmp_path: Path) -> None:
    kept: list[int] = []

    class Archive(tarfile.TarFile):
        def next(self) -> tarfile.TarInfo | None:
            kept.append(len(self.members))  # type: ignore[attr-defined]
            return super().next()

    archive = make_archive(*[("d/", DIRECTORY, "") for _ in range(50)])
    with Archive.open(mode="r|", fileobj=archive) as opened:
        _Unpacker(tmp_path, None).take(opened)
    assert max(kept) <= 1
