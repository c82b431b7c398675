"""Calls to a sandbox over its control socket: gVisor's urpc, JSON with descriptors beside it (pkg/urpc).

A request is `{"method", "arg"}`, with its descriptors beside its first byte; the answer is `{"success", "err",
"result"}`. Neither has a length: an answer ends where its JSON does. A connection is used for one call, since one that
has run out of time leaves an answer behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emberbox.host.runsc.command import SANDBOX_ID
from emberbox.host.runsc.network import Link, render_links
from emberbox.host.sockets import short_path
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

ANSWER_MAX = 1 << 20
CALL_TIMEOUT_S = limit_s(20.0)
"""Of a call that has nothing to write or read: it takes milliseconds, and a sandbox that hangs answers nothing."""

SAVE_TIMEOUT_S = limit_s(300.0)
CONNECT_TIMEOUT_S = limit_s(10.0)
_CHUNK_BYTES = 65536


class SandboxError(HostError):
    """A sandbox has refused a call, does not answer, or is gone."""


class Control:
    """Speaks to one sandbox.

    Args:
        path: its control socket (`command.control_socket`), by whatever path it is seen from here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self, link: Link | None) -> None:
        """Give a created sandbox its network, before it is started or restored: loopback, and the link.

        Raises:
            SandboxError: it refuses.
        """
        arguments, fds = render_links(link)
        await self.call("Network.CreateLinksAndRoutes", arguments, fds)

    async def start(self) -> None:
        """Run the first process of a created sandbox.

        Raises:
            SandboxError: it cannot be executed, or the sandbox is gone.
        """
        await self.call("containerManager.StartRoot", SANDBOX_ID, timeout_s=SAVE_TIMEOUT_S)

    async def restore(self, state: int, metadata: int, pages: int) -> None:
        """Let a created sandbox go on where a checkpoint was; it runs. Its bundle must be alike, with the same files.

        Args:
            state: a descriptor of the checkpoint's state.
            metadata: one of what says where its pages are.
            pages: one of its pages.

        Raises:
            SandboxError: it cannot load them.
        """
        arguments = {"HavePagesFile": True, "HaveDeviceFile": False}
        await self.call("containerManager.Restore", arguments, (state, metadata, pages), SAVE_TIMEOUT_S)

    async def checkpoint(self, state: int, metadata: int, pages: int) -> None:
        """Write all that a sandbox has into three empty files; it goes on as it was, paused or not.

        Raises:
            SandboxError: it cannot be saved, the disk is full; the sandbox may have ended.
        """
        arguments = {
            "key": None,
            "metadata": {"compression": "none"},
            "MemoryFileSaveOpts": {"ExcludeCommittedZeroPages": True},
            "have_pages_file": True,
            "Resume": True,
        }
        await self.call("containerManager.Checkpoint", arguments, (state, metadata, pages), SAVE_TIMEOUT_S)

    async def pause(self) -> None:
        """Let it stand still. It counts: as many `unpause` are needed.

        Raises:
            SandboxError: it is gone.
        """
        await self.call("containerManager.Pause")

    async def unpause(self) -> None:
        """Let it run on after a `pause`; one too many ends the sandbox.

        Raises:
            SandboxError: it is gone.
        """
        await self.call("containerManager.Resume")

    async def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end of the first process; return its wait status (waitpid(2)).

        Raises:
            SandboxError: the sandbox is gone.
        """
        return int(await self.call("containerManager.Wait", SANDBOX_ID, timeout_s=timeout_s))

    async def call(
        self, method: str, argument: Any = None, fds: Sequence[int] = (), timeout_s: float | None = CALL_TIMEOUT_S
    ) -> Any:  # fmt: skip
        """Call a method and return its result.

        Args:
            method: its name.
            argument: what it takes, as JSON.
            fds: descriptors that go with it; the caller's to close.
            timeout_s: seconds after which it is given up; None: never.

        Raises:
            SandboxError: as the class says.
        """
        request = json.dumps({"method": method, "arg": argument}).encode()
        try:
            async with asyncio.timeout(timeout_s):
                connection = await _dial(self._path)
                with connection:
                    await _send(connection, request, fds)
                    answer = await _receive(connection)
        except TimeoutError:
            raise SandboxError(f"the sandbox did not answer {method} within {timeout_s:g} s") from None
        except OSError as error:
            raise SandboxError(f"the sandbox is gone: {error.strerror} at {method}") from error
        if not answer.get("success"):
            raise SandboxError(f"the sandbox refuses {method}: {str(answer.get('err'))[:300]}")
        return answer.get("result")


async def _dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        with short_path(path) as reachable:
            await asyncio.get_running_loop().sock_connect(connection, reachable)
    except BaseException:
        connection.close()
        raise
    return connection


async def _send(connection: socket.socket, request: bytes, fds: Sequence[int]) -> None:
    sent = socket.send_fds(connection, [request], list(fds)) if fds else 0  # a new socket has room for the first bytes
    if sent < len(request):  # to send nothing fails where the answer has come already
        await asyncio.get_running_loop().sock_sendall(connection, request[sent:])


async def _receive(connection: socket.socket) -> Mapping[str, Any]:
    loop, received = asyncio.get_running_loop(), b""
    while len(received) < ANSWER_MAX:
        chunk = await loop.sock_recv(connection, _CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError(0, "it closed the connection")
        received += chunk
        with contextlib.suppress(ValueError):
            answer = json.loads(received)
            if isinstance(answer, dict):
                return answer
    raise SandboxError("the sandbox answers without an end")
