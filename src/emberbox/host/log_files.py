"""The files that VMMs write what they say to: bounded, as a guest can make them say as much as it likes.

They are opened for appending, so a file that is emptied goes on from its beginning.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MAX_BYTES = 1 << 20


def trim_log_files(home: Path) -> None:
    """Empty those that have grown too large."""
    for pattern in ("builds/*/console", "builds/*/vmm.log", "builds/*/trial/vmm.log", "microvms/*/vmm.log"):
        for path in home.glob(pattern):
            with contextlib.suppress(OSError):  # it has just been removed
                if path.stat().st_size > MAX_BYTES:
                    os.truncate(path, 0)
