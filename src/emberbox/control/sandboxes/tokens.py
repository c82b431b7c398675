"""The tokens of sandboxes: what opens commands and files, and what opens ports that are private.

They are derived from a key of the server's, so nothing is stored, and they are good as long as the sandbox is there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

_KEY_BYTES: Final = 32


class SandboxTokens:
    """Makes and checks them.

    Args:
        path: the key's file; made when missing, with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._key = _load_key(path)

    def access(self, sandbox_id: str) -> str:
        """Return what opens a sandbox's commands and files."""
        return self._derive("access", sandbox_id)

    def traffic(self, sandbox_id: str) -> str:
        """Return what opens the ports of a private sandbox."""
        return self._derive("traffic", sandbox_id)

    def _derive(self, kind: str, sandbox_id: str) -> str:
        return hmac.new(self._key, f"{kind}:{sandbox_id}".encode(), hashlib.sha256).hexdigest()


def _load_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        scratch = path.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    return path.read_bytes()
