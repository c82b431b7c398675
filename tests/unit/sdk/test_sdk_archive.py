"""Archives of local files: what comes from a sandbox is not trusted."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from emberbox_sdk import ArchiveError
from emberbox_sdk.archive import PIECE_BYTES, Pieces, _Unpacker, pack, unpack

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
    packed = pack(source)
    unpack(Pieces(lambda: next(packed, b"")), destination, into=False)


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
    with pytest.raises(ArchiveError):
        unpack(archive, target)
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
    with pytest.raises(FileNotFoundError, match="no such directory here"):
        unpack(make_archive(("f", FILE, "x")), f"{tmp_path}/{destination}", into=False)


def test_several_files_need_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="several files need a directory"):
        unpack(make_archive(("a", FILE, ""), ("b", FILE, "")), str(tmp_path / "new"), into=False)


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pack(tmp_path / "missing")


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
    with pytest.raises(ArchiveError, match="a name of 402653184 bytes"):
        unpack(stream, str(tmp_path))  # type: ignore[arg-type]
    assert stream.read_bytes < 1 << 20


def test_a_file_of_holes_is_not_copied(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("holes")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 512
    with pytest.raises(ArchiveError, match="not copied"):
        unpack(io.BytesIO(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096)), str(tmp_path))


def test_names_about_names_come_to_an_end(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("name")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 100
    with pytest.raises(ArchiveError, match="no archive"):
        unpack(io.BytesIO((entry.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5000), str(tmp_path))


def test_many_entries_are_not_all_remembered(tmp_path: Path) -> None:
    kept: list[int] = []

    class Archive(tarfile.TarFile):
        def next(self) -> tarfile.TarInfo | None:
            kept.append(len(self.members))  # type: ignore[attr-defined]
            return super().next()

    archive = make_archive(*[("d/", DIRECTORY, "") for _ in range(50)])
    with Archive.open(mode="r|", fileobj=archive) as opened:
        _Unpacker(tmp_path, None, owners=False).take(opened)
    assert max(kept) <= 1


def packed(source: str | Path, *, owners: bool = False) -> dict[str, tarfile.TarInfo]:
    whole = io.BytesIO(b"".join(pack(source, owners=owners)))
    with tarfile.open(fileobj=whole, mode="r:") as archive:
        return {entry.name: entry for entry in archive}


def test_files_are_roots_unless_owners_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert (packed(tmp_path / "f")["f"].uid, packed(tmp_path / "f")["f"].uname) == (0, "")
    found = packed(tmp_path / "f", owners=True)["f"]
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())


def test_what_is_packed_is_what_tar_would_pack(tmp_path: Path) -> None:
    """Links, hard links, FIFOs, long names and names that are no UTF-8; a socket is left out."""
    tree = make_tree(tmp_path)
    (tree / "twin").hardlink_to(tree / "d" / "f")
    os.mkfifo(tree / "fifo")
    (tree / ("long" * 50)).write_bytes(os.urandom(700))
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket"))
        found = packed(tree)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w") as archive:
        archive.add(tree, "tree")
    expected.seek(0)
    with tarfile.open(fileobj=expected, mode="r:") as archive:
        wanted = {entry.name: entry for entry in archive}
    assert found.keys() == wanted.keys()
    for name, entry in wanted.items():
        same = ("type", "mode", "size", "linkname", "mtime")
        assert [getattr(found[name], one) for one in same] == [getattr(entry, one) for one in same], name
    assert {name for name, entry in found.items() if entry.islnk()} == {"tree/twin"}


def test_a_large_file_and_many_small_ones_are_packed_in_pieces_of_bounded_size(tmp_path: Path) -> None:
    data = os.urandom(3 * PIECE_BYTES + 5)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "large").write_bytes(data)
    for number in range(600):
        (tmp_path / "t" / f"small{number}").write_text("x")
    pieces = list(pack(tmp_path / "t"))
    assert max(map(len, pieces)) < 2 * PIECE_BYTES
    assert len(pieces) < 10
    unpack(io.BytesIO(b"".join(pieces)), tmp_path / "back")
    assert (tmp_path / "back" / "t" / "large").read_bytes() == data
    assert len(list((tmp_path / "back" / "t").iterdir())) == 601


def test_a_file_that_shrinks_while_it_is_packed_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(4 * PIECE_BYTES))
    pieces = pack(tmp_path / "f")
    next(pieces)
    os.truncate(tmp_path / "f", PIECE_BYTES)
    with pytest.raises(ArchiveError, match="became shorter"):
        list(pieces)


def test_a_directory_is_made_for_what_goes_into_it(tmp_path: Path) -> None:
    unpack(make_archive(("f", FILE, "x")), tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "f").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 33, 34)
    for owners, expected in ((True, (33, 34)), (False, (0, 0))):
        unpack(io.BytesIO(b"".join(pack(tmp_path / "f", owners=True))), tmp_path / str(owners), owners=owners)
        seen = (tmp_path / str(owners) / "f").stat()
        assert (seen.st_uid, seen.st_gid) == expected
