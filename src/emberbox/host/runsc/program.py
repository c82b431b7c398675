"""Where runsc comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from emberbox.background import in_thread
from emberbox.host.debian_packages import ensure_packages
from emberbox.host.runsc.mending import mend
from emberbox.model.errors import HostError

SUITE: Final = "trixie"
"""Debian 12's own is of 2022 and too old; this one is of the day that bookworm-backports has."""

_PROGRAM: Final = "usr/bin/runsc"


def _directory(home: Path) -> Path:
    return home / "packages" / "runsc"


def find_runsc(home: Path, named: str = "") -> Path | None:
    """Return the program where it is there already; the arguments are those of `ensure_runsc`."""
    path = Path(named) if named else _directory(home) / _PROGRAM
    return path if path.is_file() else None


async def ensure_runsc(home: Path, named: str = "") -> Path:
    """Return the program; fetch it as a package into the home when it is not there.

    Args:
        home: the server's.
        named: the setting EMBERBOX_RUNSC: a program to take instead; empty: none.

    Raises:
        HostError: it is missing, or cannot be fetched; the message says what to do.
    """
    if not named:
        program = await ensure_packages(_directory(home), SUITE, ["runsc"]) / _PROGRAM
        await in_thread(mend, program)
        return program
    if not Path(named).is_file():
        raise HostError(f"EMBERBOX_RUNSC is {named}, and there is no such program")
    return Path(named)
