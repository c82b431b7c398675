"""The tokens of sandboxes: what opens commands and files, and what opens ports that are private.

They are derived from a key of the server's, so nothing is stored, and they are good as long as the sandbox is there.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from emberbox.control.requests.key_files import load_key
from emberbox.model.sandboxes import Sandbox


class SandboxTokens:
    """Makes and checks them.

    Args:
        path: the key's file; made when missing, with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._key = load_key(path)

    def access(self, sandbox_id: str) -> str:
        """Return what opens a sandbox's commands and files."""
        return self._derive("access", sandbox_id)

    def traffic(self, sandbox_id: str) -> str:
        """Return what opens the ports of a private sandbox."""
        return self._derive("traffic", sandbox_id)

    def opens_ports(self, sandbox: Sandbox, given: str) -> bool:
        """Say whether a request reaches the ports of a sandbox: everybody's does, unless it is private.

        Args:
            sandbox: whose.
            given: the token that the request has; empty where it has none.
        """
        is_known = hmac.compare_digest(given.encode(), self.traffic(sandbox.id).encode())
        return is_known or not sandbox.terms.is_private

    def _derive(self, kind: str, sandbox_id: str) -> str:
        return hmac.new(self._key, f"{kind}:{sandbox_id}".encode(), hashlib.sha256).hexdigest()
