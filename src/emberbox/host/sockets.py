"""Unix sockets at paths of any length: their address has at most 107 bytes (unix(7))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_SOCKET_PATH_MAX = 107


def listen(opened: contextlib.ExitStack, path: Path) -> int:
    """Return a listening socket; with it ready before a process is started, its clients never have to poll for it."""
    path.unlink(missing_ok=True)
    listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    with short_path(path) as bindable:
        listener.bind(bindable)
    path.chmod(0o600)
    listener.listen(8)
    return listener.fileno()


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Return a path that an address has room for: a longer one is reached through its directory.

    Raises:
        OSError: there is no such directory.
    """
    if len(os.fspath(path)) <= _SOCKET_PATH_MAX:
        yield os.fspath(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
