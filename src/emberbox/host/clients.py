"""Whether clients on this machine find an endpoint by its name, and trust it: tried, as they do it.

Each function returns what is wrong, in words; nothing where all is well.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from emberbox import process

TIMEOUT_S: Final = 5.0
_NODE_TIMEOUT_S: Final = 20.0
_NOT_INSTALLED: Final = 127  # see `CommandError`
_NODE_SCRIPT: Final = """
const [host, port, name] = process.argv.slice(1);
const socket = require('tls').connect({host, port, servername: name, timeout: 5000}, () => socket.end());
const fail = text => { console.log(text); process.exit(); };
socket.on('error', error => fail(error.code || error.message));
socket.on('timeout', () => fail('timeout'));
"""


async def find_name_problem(name: str) -> str:
    """Ask for a name as nearly every client does: with getaddrinfo.

    Args:
        name: a host's.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await loop.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        return f"{name} does not resolve here ({error or 'no answer in time'})"
    return ""


async def find_python_problem(host: str, port: int, name: str) -> str:
    """Connect to a server as Python's clients do, with what they trust by default and by SSL_CERT_FILE.

    Args:
        host: where it listens.
        port: where it listens.
        name: what its certificate must be for.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            context = await asyncio.to_thread(ssl.create_default_context)
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            writer.close()
    except ssl.SSLCertVerificationError as error:
        return f"Python does not trust {name}: {error.verify_message}"
    except (OSError, TimeoutError) as error:
        return f"Python does not reach {name} at {host}:{port}: {error or 'no answer in time'}"
    return ""


async def find_node_problem(host: str, port: int, name: str, program: str = "node") -> str | None:
    """Connect to a server as Node's clients do; None where there is no Node.

    Args:
        host: where it listens.
        port: where it listens.
        name: what its certificate must be for.
        program: Node.
    """
    command = [program, "-e", _NODE_SCRIPT, "--", host, str(port), name]
    try:
        done = await process.run(command, timeout=_NODE_TIMEOUT_S)
    except process.CommandError as error:
        return None if error.returncode == _NOT_INSTALLED else str(error)
    return f"Node does not trust {name}: {done.stdout.strip()}" if done.stdout.strip() else ""
