"""QEMU's monitor (QMP), with the few commands that Emberbox uses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from emberbox.host.processor import find_processor
from emberbox.model.errors import VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.engine import Engine, Processor

CONNECT_TIMEOUT_S = limit_s(30.0)
COMMAND_TIMEOUT_S = limit_s(60.0)
STATUS_TIMEOUT_S = limit_s(20.0)
"""QEMU tells its status at once unless it hangs; whoever asked the API for something waits for a minute at most."""


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

    @property
    def version(self) -> str:
        """QEMU's version, from its greeting."""
        assert self._client.greeting is not None
        number: Any = self._client.greeting.QMP.version["qemu"]  # the library knows the greeting's outer form only
        return f"{number['major']}.{number['minor']}.{number['micro']}"

    async def find_engine(self) -> Engine:
        """Return what this QEMU is and runs its guest with.

        Raises:
            VmmError: it ended or did not answer.
        """
        if not (await self.execute("query-kvm"))["enabled"]:
            return Engine("QEMU", self.version, "tcg")
        answer = await self.execute("query-cpu-model-expansion", type="full", model={"name": "host"})
        props: Mapping[str, Any] = answer["model"]["props"]
        return Engine("QEMU", self.version, "kvm", _processor(props) if "vendor" in props else _host_processor())

    async def status(self) -> str:
        """Return the state of the guest (QMP, RunState).

        Raises:
            VmmError: QEMU ended, or did not answer within 20 seconds.
        """
        return str((await self._execute("query-status", {}, STATUS_TIMEOUT_S))["status"])

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return what it returns.

        Raises:
            VmmError: QEMU refused it, ended, or did not answer within a minute.
        """
        return await self._execute(command, arguments, COMMAND_TIMEOUT_S)

    async def _execute(self, command: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.execute(command, arguments or None)
        except ExecuteError as error:
            raise VmmError(f"QEMU refused {command}: {error}") from error
        except TimeoutError:
            raise VmmError(f"QEMU did not answer {command} within {timeout_s:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise VmmError(f"QEMU ended during {command}") from error

    def stops(self) -> contextlib.AbstractContextManager[EventListener]:
        """Collect, for as long as the block lasts, the events that say that the guest was stopped, by whomever."""
        return self._client.listener("STOP")

    async def lend_file(self, fd: int, set_number: int) -> str:
        """Give QEMU a descriptor and return the path under which it opens it; `take_back` ends that.

        Raises:
            VmmError: QEMU refused it, or ended.
        """
        try:
            self._client.send_fd_scm(fd)
        except OSError as error:  # its end has been noticed already: the transport's socket is closed
            raise VmmError("QEMU ended before it was given a file") from error
        await self.execute("add-fd", **{"fdset-id": set_number})
        return f"/dev/fdset/{set_number}"

    async def take_back(self, set_number: int) -> None:
        """Take back what `lend_file` gave."""
        await self.execute("remove-fd", **{"fdset-id": set_number})

    async def close(self) -> None:
        """Drop the connection; QEMU goes on."""
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()


def _host_processor() -> Processor:
    """Return the machine's processor as the kernel tells it, where QEMU does not say whose it is: on AArch64."""
    found = find_processor()
    return Processor(found.vendor, found.family, found.model, found.name or "AArch64", found.features)


def _processor(properties: Mapping[str, Any]) -> Processor:
    """Return the processor that QEMU says guests get.

    Features are all properties that are on; those with an underscore or a dot are second names of others.
    """
    features = sorted(name for name, value in properties.items() if value is True and not set(name) & set("_."))
    return Processor(
        str(properties["vendor"]),
        int(properties["family"]),
        int(properties["model"]),
        str(properties.get("model-id") or "a processor without a name").strip(),
        tuple(features),
    )
