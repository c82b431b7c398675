"""Keys of the server's own, each in a file that only it can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

KEY_BYTES = 32


def load_key(path: Path, make: Callable[[], bytes] = lambda: secrets.token_bytes(KEY_BYTES)) -> bytes:
    """Return a key; the file is made when missing, with mode 0600, whole or not at all.

    Args:
        path: the key's file.
        make: makes a new one.

    Raises:
        OSError: it can be neither read nor made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        scratch = path.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    return path.read_bytes()
