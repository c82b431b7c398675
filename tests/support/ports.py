"""Ports of this machine, as a client sees them."""

from __future__ import annotations

import asyncio


async def accepts(port: int) -> bool:
    """Say whether somebody takes connections at a port of loopback."""
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
