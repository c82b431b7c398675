"""Runs inside a guest: changes files and a database without pause, remembers what they must be, and compares.

    endure.py DIRECTORY     works; when DIRECTORY/check is made, writes DIRECTORY/verdict and works on

Nothing is synced, so whatever a suspend catches is half in memory and half on the disk. What must be is kept in this
process's memory, which a suspend carries along too. The comparison drops the page cache of each file first, so that it
is the disk that answers.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sqlite3
import sys
from hashlib import sha256
from pathlib import Path

FILES_MAX = 40
FILE_BYTES = 200_000
UPLOAD_PIECE = 65_536


class Endurance:
    """The files, and what they must hold."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.expected: dict[str, str] = {}
        self.upload = sha256()
        self.uploaded = 0
        self.rows = self.total = self.steps = 0
        self.database = sqlite3.connect(directory / "endure.db", isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, amount INTEGER)")

    def step(self) -> None:
        """Do one thing of each kind."""
        self.steps += 1
        self.write(f"file-{random.randrange(FILES_MAX)}")
        self.rename_or_delete()
        self.map(f"file-{random.randrange(FILES_MAX)}")
        self.insert()
        self.continue_upload()

    def write(self, name: str) -> None:
        content = random.randbytes(random.randrange(1, FILE_BYTES))
        (self.directory / name).write_bytes(content)
        self.expected[name] = sha256(content).hexdigest()

    def rename_or_delete(self) -> None:
        name = random.choice(list(self.expected))
        digest = self.expected.pop(name)
        if random.random() < 0.3:
            (self.directory / name).unlink()
        else:
            other = f"file-{random.randrange(FILES_MAX)}"
            (self.directory / name).rename(self.directory / other)
            self.expected[other] = digest

    def map(self, name: str) -> None:
        """Change a file through a shared mapping."""
        if name not in self.expected:
            self.write(name)
        with (self.directory / name).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            place = random.randrange(len(mapping))
            piece = random.randbytes(min(4096, len(mapping) - place))
            mapping[place : place + len(piece)] = piece
            self.expected[name] = sha256(mapping).hexdigest()

    def insert(self) -> None:
        amount = random.randrange(1000)
        self.database.execute("BEGIN")
        self.database.execute("INSERT INTO entries (amount) VALUES (?)", (amount,))
        self.database.execute("COMMIT")
        self.rows, self.total = self.rows + 1, self.total + amount

    def continue_upload(self) -> None:
        """Append to a file that is never complete; it begins anew at 32 MiB."""
        piece = random.randbytes(UPLOAD_PIECE)
        if self.uploaded >= 32 << 20:
            (self.directory / "upload").unlink()
            self.upload, self.uploaded = sha256(), 0
        with (self.directory / "upload").open("ab") as file:
            file.write(piece)
        self.upload.update(piece)
        self.uploaded += len(piece)

    def differences(self) -> list[str]:
        """Return what is not as it must be."""
        self.expected["upload"] = self.upload.hexdigest()
        found = {path.name for path in self.directory.iterdir()}
        wrong = [f"{name} is missing" for name in self.expected.keys() - found]
        known = self.expected.keys()
        wrong += [f"{name} should not be there" for name in found - known if name.startswith("file-")]
        wrong += [f"{name} differs" for name in known & found if self.stored(name) != self.expected[name]]
        row = self.database.execute("SELECT count(*), coalesce(sum(amount), 0) FROM entries").fetchone()
        if row != (self.rows, self.total):
            wrong.append(f"the database holds {row}, not {(self.rows, self.total)}")
        ((verdict,),) = self.database.execute("PRAGMA integrity_check").fetchall()
        del self.expected["upload"]
        return wrong + ([] if verdict == "ok" else [f"the database is damaged: {verdict}"])

    def stored(self, name: str) -> str:
        """Return the digest of what the disk holds of a file."""
        with (self.directory / name).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return sha256(file.read()).hexdigest()


def main(directory: Path) -> None:
    """Work without end, and compare when asked by a file `check`."""
    directory.mkdir()
    work = Endurance(directory)
    (directory / "started").touch()
    while True:
        work.step()
        if (directory / "check").exists():
            verdict = {"steps": work.steps, "wrong": work.differences()}
            (directory / "verdict.new").write_text(json.dumps(verdict))
            (directory / "check").unlink()
            (directory / "verdict.new").rename(directory / "verdict")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
