"""Disks: the read-only root file system of an image and the sparse writable disk of each microVM."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from emberbox import process

_COPY_STEP = 1 << 26


async def make_root(directory: Path, destination: Path, enter: Sequence[str] = (), *, plain: bool = False) -> None:
    """Pack a directory into an EROFS image: uncompressed, as reading it must be quick in an emulated guest.

    Args:
        directory: what the image will hold.
        destination: the image's file.
        enter: a command that leads to where the owners of the files are seen as they are in the image.
        plain: gVisor can read it: every file's content begins a block of its own, and files have no extended
            attributes, which it does not know. So no file gives capabilities to the program in it.

    Raises:
        CommandError: mkfs.erofs failed; the disk may be full.
    """
    options = ["-Enoinline_data", "-x-1"] if plain else []
    await process.run([*enter, "mkfs.erofs", "--quiet", *options, destination, directory], timeout=1800, tied=True)


async def make_writable(destination: Path, size_bytes: int) -> None:
    """Make an empty ext4 disk of which only a few hundred kilobytes are stored.

    It has no journal: a microVM's disk is never used without the memory that it was saved with, so there is
    never anything to recover.

    Raises:
        CommandError: mke2fs failed; the disk may be full.
    """
    with destination.open("xb") as disk:
        disk.truncate(size_bytes)
    features = ["-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0", "-i", "65536"]
    extended = ["-E", "lazy_itable_init=1,nodiscard"]
    await process.run(["mke2fs", "-q", *features, *extended, destination], timeout=300, tied=True)


def copy_sparse(source: Path, destination: Path) -> None:
    """Copy a file, its holes left out; where the file system can, the data is shared until one side changes.

    Raises:
        OSError: the disk is full, or a file is missing; a partial copy is removed.
    """
    try:
        with source.open("rb") as reader, destination.open("xb") as writer:
            _copy_data(reader.fileno(), writer.fileno())
    except FileExistsError:
        raise
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _copy_data(reader: int, writer: int) -> None:
    size = os.fstat(reader).st_size
    os.ftruncate(writer, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(reader, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(reader, start, os.SEEK_HOLE)
        while start < position:
            step = min(position - start, _COPY_STEP)
            start += os.copy_file_range(reader, writer, step, start, start)


def unshare(path: Path) -> None:
    """Make sure that a file has one name only, so that writing into it changes nobody else's.

    Raises:
        OSError: the disk is full.
    """
    if not path.exists() or path.stat().st_nlink == 1:
        return
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    copy_sparse(path, scratch)
    scratch.replace(path)


def stored_bytes(path: Path) -> int:
    """Return how many bytes a sparse file takes on the disk."""
    return path.stat().st_blocks * 512


def sync(path: Path) -> None:
    """Wait until a file or directory is on stable storage."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
