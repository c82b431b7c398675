"""TCP ports for listeners: "any free one", the same again after a restart as far as that can be, and 443."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

_PRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_STATUS: Final = Path("/proc/self/status")
_CAP_NET_BIND_SERVICE: Final = 10  # capabilities(7)


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


def may_take(address: str, port: int) -> bool:
    """Say whether nobody listens on a port, and a program that this process starts may do so."""
    if os.geteuid() != 0 and port < int(_PRIVILEGED.read_text()) and not _hands_on(_CAP_NET_BIND_SERVICE):
        return False
    try:
        _bound(address, port).close()
    except OSError:
        return False
    return True


def _hands_on(capability: int) -> bool:
    """Say whether children have a capability of ours: those of a file's are not inherited, ambient ones are."""
    ambient = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapAmb:"))
    return bool(int(ambient.split()[1], 16) >> capability & 1)


def _bound(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
