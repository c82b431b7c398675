"""QEMU's monitor (QMP), with the few commands that Emberbox uses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from emberbox.model.errors import VmmError

CONNECT_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 60.0


class _Client(QMPClient):
    """The library's client, able to pass descriptors also on event loops that hide their sockets (uvloop)."""

    def send_fd_scm(self, fd: int) -> None:
        """Send a descriptor; the next command can name it."""
        assert self._writer is not None
        shared = os.dup(self._writer.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=shared) as plain:
            socket.send_fds(plain, [b" "], [fd])


class Monitor:
    """A connection to one QEMU's monitor; made by `connect`."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    @classmethod
    async def connect(cls, path: Path) -> Monitor:
        """Connect and negotiate.

        Raises:
            VmmError: QEMU ended or did not answer.
        """
        client = _Client(path.parent.name)
        client.logger.disabled = True
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(str(path))
        except (QMPError, OSError, TimeoutError, EOFError) as error:
            raise VmmError(f"QEMU's monitor did not answer: {error}") from error
        return cls(client)

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return what it returns.

        Raises:
            VmmError: QEMU refused it, ended, or did not answer within a minute.
        """
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                return await self._client.execute(command, arguments or None)
        except ExecuteError as error:
            raise VmmError(f"QEMU refused {command}: {error}") from error
        except TimeoutError:
            raise VmmError(f"QEMU did not answer {command} within {COMMAND_TIMEOUT_S:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise VmmError(f"QEMU ended during {command}") from error

    async def lend_file(self, fd: int, set_number: int) -> str:
        """Give QEMU a descriptor and return the path under which it opens it; `take_back` ends that.

        Raises:
            VmmError: QEMU refused it, or ended.
        """
        self._client.send_fd_scm(fd)
        await self.execute("add-fd", **{"fdset-id": set_number})
        return f"/dev/fdset/{set_number}"

    async def take_back(self, set_number: int) -> None:
        """Take back what `lend_file` gave."""
        await self.execute("remove-fd", **{"fdset-id": set_number})

    async def close(self) -> None:
        """Drop the connection; QEMU goes on."""
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
