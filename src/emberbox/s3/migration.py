"""Taking over what an earlier release kept: a bucket was a directory, an object a file in it.

Nothing is copied and nothing can be lost: a file gets a second name among the contents, then its row is stored, then
the old name is removed. Whatever interrupts that, the next start goes on with it. What cannot be taken over stays
where it is, and the log says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emberbox.s3.addressing import KEY_BYTES_MAX
from emberbox.s3.files import Files
from emberbox.s3.index import Bucket, Index, Rows, Version

log = logging.getLogger(__name__)

_BATCH: Final = 1000
_ENCODED: Final = {"\uff0e": ".", "\uff0e\uff0e": ".."}  # how rclone wrote such parts of a key


def take_over(directory: Path, index: Index, files: Files, account_id: str, region: str) -> None:
    """Make buckets and objects of directories and files.

    Args:
        directory: where they are; missing when there never were any.
        index: the rows.
        files: the contents.
        account_id: whose they become.
        region: the region that is played.

    Raises:
        OSError: the disk is full.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for folder in sorted(directory.iterdir()):
            if folder.is_dir() and not folder.is_symlink():
                _take_bucket(folder, index, files, account_id, region)
            else:
                log.warning("%s is in no bucket, and stays where it is", folder)
        _remove_empty(directory)


def _take_bucket(folder: Path, index: Index, files: Files, account_id: str, region: str) -> None:
    created = int(folder.stat().st_mtime * 1000)
    with index.writing() as rows:
        if rows.bucket(folder.name) is None:
            rows.add_bucket(Bucket(folder.name, account_id, region, created))
    paths = list(_files_below(folder))
    for start in range(0, len(paths), _BATCH):
        _take_files(folder, paths[start : start + _BATCH], index, files)
    log.info("bucket %s: %d objects are taken over", folder.name, len(paths))
    _remove_empty(folder)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            log.warning("%s is no plain file, and stays where it is", path)
        elif path.is_file():
            yield path


def _take_files(folder: Path, paths: list[Path], index: Index, files: Files) -> None:
    with index.writing() as rows:
        done = [path for path in paths if _take_file(folder, path, rows, files)]
    for path in done:
        path.unlink()


def _take_file(folder: Path, path: Path, rows: Rows, files: Files) -> bool:
    """Store a row for a file; say whether its old name may go."""
    try:
        parts = [_ENCODED.get(part, part) for part in path.relative_to(folder).parts]
        key = "/".join(parts).encode()
    except UnicodeEncodeError:
        log.warning("%r has a name that is no UTF-8, and stays where it is", str(path))
        return False
    if len(key) > KEY_BYTES_MAX:
        log.warning("%s has a name that is too long for a key, and stays where it is", path)
        return False
    known = rows.latest(folder.name, key)
    if known is not None:
        is_same = any(files.path(name).samefile(path) for name, _ in known.pieces if files.path(name).exists())
        if not is_same:
            log.warning("%s stays where it is: there is an object of that name already", path)
        return is_same
    facts = path.stat()
    name = files.new_name()
    try:
        files.path(name).hardlink_to(path)
        files.sync_directory(name)
    except OSError:  # another file system, or one without links
        with path.open("rb") as source, files.writing() as new:
            while data := source.read(8 << 20):
                new.write(data)
            new.finish()
            name = new.name
    told = f"{key!r} {facts.st_size} {facts.st_mtime_ns}".encode()
    rows.add(
        Version(
            bucket=folder.name,
            key=key,
            size=facts.st_size,
            etag=f"{hashlib.md5(told, usedforsecurity=False).hexdigest()}-1",  # in the form that is no content's MD5
            modified_ms=facts.st_mtime_ns // 1_000_000,
            pieces=[(name, facts.st_size)],
            headers={"Content-Type": mimetypes.guess_type(path.name)[0] or "binary/octet-stream"},
        )
    )
    return True


def _remove_empty(folder: Path) -> None:
    """Remove directories that hold nothing any more."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)  # noqa: PTH106
