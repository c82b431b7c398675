"""Secrets at rest: encrypted and authenticated with a key in a file that only the server can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from emberbox.control.requests.key_files import load_key
from emberbox.model.errors import HostError


class Vault:
    """Seals and opens values.

    Args:
        path: the key's file; made when missing, with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher = Fernet(load_key(path, Fernet.generate_key))

    def seal(self, value: object) -> str:
        """Encrypt a value that JSON can hold."""
        return self._cipher.encrypt(json.dumps(value, separators=(",", ":")).encode()).decode()

    def open(self, sealed: str) -> Any:  # Any: who sealed a value knows its type
        """Return a value that this server stored.

        Raises:
            HostError: it was sealed with another key, or changed since.
        """
        value = self.try_open(sealed)
        if value is None:
            raise HostError(f"a stored secret cannot be read with {self._path}; was that file replaced?")
        return value

    def try_open(self, sealed: str) -> Any:  # Any: see `open`
        """Return a value that a stranger brought; None when it was not sealed here."""
        try:
            return json.loads(self._cipher.decrypt(sealed.encode()))
        except (InvalidToken, UnicodeEncodeError):
            return None
