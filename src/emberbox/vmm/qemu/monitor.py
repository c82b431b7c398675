"""QEMU's monitor (QMP), with the few commands that Emberbox uses."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from emberbox.model.errors import VmmError

CONNECT_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 60.0


class Monitor:
    """A connection to one QEMU's monitor; made by `connect`."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, path: Path) -> Monitor:
        """Connect and negotiate.

        Raises:
            VmmError: QEMU ended or did not answer.
        """
        client = QMPClient(path.parent.name)
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

    async def close(self) -> None:
        """Drop the connection; QEMU goes on."""
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
