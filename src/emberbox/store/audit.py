"""The audit trail's files: JSON lines that are only ever added, in files of a limited size and number.

The newest file takes the lines. A file keeps its name when the next one is begun, so a place (a name and an offset)
stays good until the file is removed for its age.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where reading goes on: a file's name and an offset in it."""

    name: str = ""
    offset: int = 0


class AuditFiles:
    """Lines in files.

    Args:
        directory: made when missing, with mode 0700.
        file_bytes: a file that has grown to this size is followed by a new one.
        files_max: so many files are kept.
    """

    def __init__(self, directory: Path, file_bytes: int, files_max: int) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._files_max = files_max
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._end_torn_line()

    def append(self, lines: Sequence[str]) -> None:
        """Add lines and put them on the disk.

        Raises:
            OSError: they cannot be written; then none of them counts as written.
        """
        with self._lock, os.fdopen(os.open(self._current(), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            before = file.seek(0, os.SEEK_END)
            try:
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
            except OSError:
                file.truncate(before)
                raise
            os.fdatasync(file.fileno())

    def read(self, place: Place) -> Iterator[tuple[str, Place]]:
        """Yield whole lines after a place, each with the place behind it.

        A last line that is not complete yet is left for later.
        """
        for path in self._paths():
            if path.name < place.name:
                continue
            offset = place.offset if path.name == place.name else 0
            with path.open("rb") as file:
                file.seek(offset)
                while (line := file.readline()).endswith(b"\n"):
                    offset += len(line)
                    yield line.decode(errors="replace"), Place(path.name, offset)

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("audit-*.jsonl"))

    def _current(self) -> Path:
        """Return the file that takes lines; begin a new one and remove the oldest when it is time."""
        paths = self._paths()
        if paths and paths[-1].stat().st_size < self._file_bytes:
            return paths[-1]
        for old in paths[: len(paths) - self._files_max + 1]:
            old.unlink(missing_ok=True)
        name = f"audit-{time.time_ns():020}.jsonl"
        return self._directory / max(name, f"{paths[-1].stem}-next.jsonl" if paths else name)

    def _end_torn_line(self) -> None:
        """A server that was killed while it wrote left half a line; the next must not be joined to it."""
        for path in self._paths()[-1:]:
            with path.open("rb+", buffering=0) as file:
                if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
                    try:
                        file.write(b"\n")
                    except OSError:  # a full disk, which is no reason not to start: the half line goes
                        file.truncate(path.read_bytes().rfind(b"\n") + 1)
