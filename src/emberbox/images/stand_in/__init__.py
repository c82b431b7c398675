"""What Debian has where it stands for Amazon Linux: `dnf`, `microdnf` and `yum`, which lead to apt.

Made of the standard library alone, as it is used in sandboxes too.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Final

PROGRAM: Final = Path(__file__).with_name("dnf")
NAMES: Final = ("dnf", "microdnf", "yum")


def version() -> str:
    """Return what changes with the program."""
    return hashlib.sha256(PROGRAM.read_bytes()).hexdigest()[:16]


def write_archive(destination: Path) -> None:
    """Write a tar archive of the files that are added to the Debian base."""
    content = PROGRAM.read_bytes()
    with tarfile.open(destination, "w") as archive:
        for name in NAMES:
            entry = tarfile.TarInfo(f"usr/bin/{name}")
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
