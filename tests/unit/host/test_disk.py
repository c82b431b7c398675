"""Disks: sparse copies, an ext4 file system, an EROFS image."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox import process
from emberbox.host import disk
from emberbox.process import CommandError

MIB = 1 << 20


def make_sparse(path: Path) -> None:
    """Make a file of 64 MiB with data at its beginning, somewhere inside, and none at its end."""
    with path.open("wb") as file:
        file.write(b"head" * 1024)
        file.seek(32 * MIB)
        file.write(b"body" * 1024)
        file.truncate(64 * MIB)


def test_a_sparse_copy_is_the_same_and_as_small(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    make_sparse(source)
    disk.copy_sparse(source, copy)
    assert copy.read_bytes() == source.read_bytes()
    assert disk.stored_bytes(copy) < MIB


def test_a_shared_file_gets_content_of_its_own_before_it_is_written(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make_sparse(one)
    other.hardlink_to(one)
    disk.unshare(one)
    assert not one.samefile(other)
    assert one.read_bytes() == other.read_bytes()
    before = one.stat().st_ino
    disk.unshare(one)
    disk.unshare(tmp_path / "missing")
    assert one.stat().st_ino == before


def test_an_empty_and_a_dense_file_are_copied(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    disk.copy_sparse(tmp_path / "empty", tmp_path / "empty.copy")
    assert (tmp_path / "empty.copy").stat().st_size == 0
    (tmp_path / "dense").write_bytes(bytes(range(256)) * 4096)
    disk.copy_sparse(tmp_path / "dense", tmp_path / "dense.copy")
    assert (tmp_path / "dense.copy").read_bytes() == (tmp_path / "dense").read_bytes()


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "copy").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        disk.copy_sparse(tmp_path / "source", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    make_sparse(tmp_path / "source")
    monkeypatch.setattr(disk, "_copy_data", fail)
    with pytest.raises(OSError, match="No space left"):
        disk.copy_sparse(tmp_path / "source", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_a_writable_disk_is_an_ext4_that_takes_little(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    await disk.make_writable(path, 8 << 30)
    assert path.stat().st_size == 8 << 30
    assert disk.stored_bytes(path) < 8 * MIB
    shown = (await process.run(["dumpe2fs", "-h", path])).stdout
    features = next(line for line in shown.splitlines() if line.startswith("Filesystem features"))
    assert "has_journal" not in features
    assert "clean" in next(line for line in shown.splitlines() if line.startswith("Filesystem state"))


async def test_a_writable_disk_is_never_made_twice(tmp_path: Path) -> None:
    await disk.make_writable(tmp_path / "disk", 64 * MIB)
    with pytest.raises(FileExistsError):
        await disk.make_writable(tmp_path / "disk", 64 * MIB)


async def test_a_directory_is_packed_into_erofs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("content of the file")
    await disk.make_root(tmp_path / "tree", tmp_path / "root.erofs")
    packed = (tmp_path / "root.erofs").read_bytes()
    assert packed[1024:1028] == b"\xe2\xe1\xf5\xe0"  # the magic of EROFS
    assert b"content of the file" in packed  # uncompressed


async def test_packing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"mkfs\.erofs exited with code"):
        await disk.make_root(tmp_path / "missing", tmp_path / "root.erofs")


def test_files_and_directories_are_synced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    disk.sync(tmp_path / "file")
    disk.sync(tmp_path)
