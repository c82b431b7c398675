"""A fault of gVisor's with epoll that is mended in the program which Debian has.

What a program had taken out of an epoll instance was told to it again after the next restore, for ever: those with an
event loop ended or ran in circles after their second resume. An entry that is not ready keeps pointers to its
neighbours of then, so those are saved with it although they were removed, and a restored entry says that it is ready
(gVisor, "vfs: clear temporary notReady lists", 31 March 2026). Releases since then have it mended.

In Debian's program `EpollInstance.removeLocked` sets the mask of what it takes out to 0, as those releases do, and
`epollInterest.afterLoad` says nothing of an entry that waits for nothing. There is room for it in the instructions that
look whether the entry is ready (decision 0061).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.model.errors import HostError

MENDED_SINCE: Final = 20260406
"""The first release after the day on which gVisor mended it: a release is named by its day."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed in one program.

    Args:
        digest: SHA-256 of it, in hexadecimal.
        offset: where.
        before: what is there.
        after: what is there then, as long.
    """

    digest: str
    offset: int
    before: bytes
    after: bytes


CHANGES: Final = (
    Change(  # Debian 13, runsc 20240729.0, amd64; rbx is the entry, its mask is at 0x40, whether it is ready at 0x44
        "ce52e04038baa76d6069afae5fc1bee60c153bbf0276f2c3c25506553526f38f",
        0x3F72CA,
        bytes.fromhex("80 7b 44 00 74 15 c6 43 44 00"),  # cmpb $0,0x44(rbx); je past; movb $0,0x44(rbx)
        bytes.fromhex("31 c9 89 4b 40 86 4b 44 e3 11"),  # xor ecx,ecx; mov ecx,0x40(rbx); xchg cl,0x44(rbx); jrcxz past
    ),
)


def mend(program: Path) -> None:
    """Mend a program that is known, in place; one that is mended already, or is not known, stays as it is.

    Raises:
        HostError: it cannot be written.
    """
    for change in CHANGES:
        if _read_at(program, change) == change.before and _digest(program) == change.digest:
            _write(program, change)


def is_mended(program: Path, version: str) -> bool:
    """Say whether a program of such a version is without the fault, as far as it is known."""
    day = version.partition(".")[0].removeprefix("release-")
    if day.isdigit() and int(day) >= MENDED_SINCE:
        return True
    return any(_read_at(program, change) == change.after for change in CHANGES)


def _read_at(program: Path, change: Change) -> bytes:
    with program.open("rb") as file:
        file.seek(change.offset)
        return file.read(len(change.before))


def _digest(program: Path) -> str:
    with program.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(program: Path, change: Change) -> None:
    """Put a changed copy in its place: sandboxes that run go on with the file that they have; none sees half of it."""
    copy = program.with_name(f"{program.name}.mended")
    try:
        shutil.copy2(program, copy)
        with copy.open("r+b") as file:
            file.seek(change.offset)
            file.write(change.after)
            file.flush()
            os.fsync(file.fileno())
        copy.replace(program)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise HostError(f"{program} cannot be mended: {error.strerror}") from error
