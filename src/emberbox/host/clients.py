"""Whether clients on this machine find an endpoint by its name, and trust it: tried, as they do it.

Each function returns what is wrong, in words; nothing where all is well. `mend_names` is the one thing that can be put
right from here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from emberbox import process
from emberbox.model.errors import HostError

TIMEOUT_S: Final = 5.0
NAMES_PACKAGE: Final = "libnss-myhostname"
"""Debian's package with which getaddrinfo knows names below localhost; its installation puts it into nsswitch.conf."""

_CLIENT_TIMEOUT_S: Final = 20.0
_INSTALL_TIMEOUT_S: Final = 300.0
_NOT_INSTALLED: Final = 127  # see `CommandError`
_PYTHON_SCRIPT: Final = """
import socket, ssl, sys
host, port, name = sys.argv[1:]
try:
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname=name).close()
except ssl.SSLCertVerificationError as error:
    print(f"Python does not trust {name}: {error.verify_message}")
except OSError as error:
    print(f"Python does not reach {name} at {host}:{port}: {error}")
"""
_NODE_SCRIPT: Final = """
const [host, port, name] = process.argv.slice(1);
const socket = require('tls').connect({host, port, servername: name, timeout: 5000}, () => socket.end());
const fail = text => { console.log(`Node does not trust ${name}: ${text}`); process.exit(); };
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


async def find_python_problem(host: str, port: int, name: str, environment: Mapping[str, str] | None = None) -> str:
    """Connect to a server as Python's clients do, with what they trust by default and by SSL_CERT_FILE.

    Args:
        host: where it listens.
        port: where it listens.
        name: what its certificate must be for.
        environment: of the client; by default that of this process.
    """
    command = [sys.executable, "-I", "-c", _PYTHON_SCRIPT, host, str(port), name]
    return await _run_client(command, environment) or ""


async def find_node_problem(
    host: str, port: int, name: str, program: str = "node", *, environment: Mapping[str, str] | None = None
) -> str | None:
    """Connect to a server as Node's clients do; None where there is no Node.

    Args:
        host: where it listens.
        port: where it listens.
        name: what its certificate must be for.
        program: Node.
        environment: of the client; by default that of this process.
    """
    return await _run_client([program, "-e", _NODE_SCRIPT, "--", host, str(port), name], environment)


async def _run_client(command: Sequence[str], environment: Mapping[str, str] | None) -> str | None:
    """Return what a client prints; None where it is not installed."""
    try:
        done = await process.run(command, environment=environment, timeout=_CLIENT_TIMEOUT_S)
    except process.CommandError as error:
        return None if error.returncode == _NOT_INSTALLED else str(error)
    return done.stdout.strip()


async def mend_names() -> None:
    """Let getaddrinfo know names below localhost, from now on and for every program of this machine.

    Raises:
        HostError: this is not Debian, the caller is not root, or the installation failed; the text says what to do.
    """
    command = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", NAMES_PACKAGE]
    if not shutil.which("apt-get"):
        raise HostError(f"names below localhost cannot be mended from here: only Debian has {NAMES_PACKAGE}")
    if os.geteuid() != 0:
        raise HostError(f"only root may install {NAMES_PACKAGE}; run: sudo apt-get install {NAMES_PACKAGE}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        await process.run(command, environment=environment, timeout=_INSTALL_TIMEOUT_S)
    except HostError as error:
        raise HostError(f"{NAMES_PACKAGE} was not installed: {error}; apt-get update may help") from error
