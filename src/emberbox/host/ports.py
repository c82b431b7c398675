"""TCP ports for listeners whose port is 0, "any free one": the same again after a restart, as far as that can be."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with _bound(address, 0) as probe:
        port: int = probe.getsockname()[1]
        return port


def keep_port(note: Path, address: str, *, held: bool) -> int:
    """Return the port that a note names, or a free one, which is noted then: clients find a server again.

    Args:
        note: the file that names it.
        address: where is listened.
        held: a process that is taken over, or ended, listens there; otherwise the noted port must be free.
    """
    with contextlib.suppress(OSError, ValueError):
        port = int(note.read_text())
        if not held:
            _bound(address, port).close()
        return port
    port = free_port(address)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{port}\n")
    return port


def _bound(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
