"""Connections to guests' agents."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from emberbox.model.errors import GuestError


async def dial_unix(path: Path) -> socket.socket:
    """Connect to a Unix socket; the connection is the caller's.

    Raises:
        GuestError: nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, os.fspath(path))
    except OSError as error:
        connection.close()
        raise GuestError(f"the agent's socket does not answer: {error.strerror}") from error
    except BaseException:
        connection.close()
        raise
    return connection
