"""Commands of a guest, run on this machine: what E2B's edge does in a sandbox can be seen without one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import getpass
import os
import pty
import signal
import struct
import termios
from pathlib import Path

from emberbox.guest.streams import STDERR, STDOUT
from emberbox.machine.base import Command
from emberbox.model.errors import GuestError

_PIECE = 65536


class LocalCommand:
    """A command, with the interface of `GuestCommand`.

    Args:
        command: what is asked for.
        home: where it runs, and its HOME.
    """

    def __init__(self, command: Command, home: Path) -> None:
        self._command = command
        self._home = home
        self._heard: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(8)
        self._is_cut_off = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._terminal: int | None = None
        self.exit_code = -1

    async def start(self) -> LocalCommand:
        """Start it."""
        command, arguments = self._command, list(self._command.arguments)
        if command.user not in (None, getpass.getuser()):
            arguments = ["sh", "-c", "echo there is no such user in the container >&2; exit 126"]
        child_end: int | None = None
        if command.terminal:
            self._terminal, child_end = pty.openpty()
        pipe = asyncio.subprocess.PIPE if child_end is None else child_end
        self._process = await asyncio.create_subprocess_exec(
            *arguments, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self._home, start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), **dict(command.environment)},
        )  # fmt: skip
        if child_end is not None:
            os.close(child_end)
        self._tasks = [asyncio.create_task(self._gather())]
        return self

    async def _gather(self) -> None:
        process = self._process
        if self._terminal is not None:
            await self._pass_terminal(self._terminal)
        else:
            assert process.stdout is not None
            assert process.stderr is not None
            await asyncio.gather(self._pass(process.stdout, STDOUT), self._pass(process.stderr, STDERR))
        code = await process.wait()
        self.exit_code = 128 - code if code < 0 else code
        await self._heard.put(None)

    async def _pass(self, stream: asyncio.StreamReader, which: int) -> None:
        while data := await stream.read(_PIECE):
            await self._heard.put((which, data))

    async def _pass_terminal(self, terminal: int) -> None:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while data := await asyncio.to_thread(os.read, terminal, _PIECE):
                await self._heard.put((STDOUT, data))

    async def read(self) -> tuple[int, bytes] | None:
        """See `GuestCommand.read`."""
        getting, cut = asyncio.create_task(self._heard.get()), asyncio.create_task(self._is_cut_off.wait())
        try:
            await asyncio.wait((getting, cut), return_when=asyncio.FIRST_COMPLETED)
            if cut.done():
                raise GuestError("the connection to the command broke: the microVM was suspended or has ended")
            return getting.result()
        finally:
            getting.cancel()
            cut.cancel()

    async def write(self, data: bytes) -> None:
        """See `GuestCommand.write`."""
        if self._terminal is not None:
            os.write(self._terminal, data)
            return
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            await stdin.drain()
        except OSError as error:
            raise GuestError("the connection in the guest is closed") from error

    def end_input(self) -> None:
        """See `GuestCommand.end_input`."""
        if self._terminal is None and self._process.stdin is not None:
            self._process.stdin.close()

    def signal(self, number: int) -> None:
        """See `GuestCommand.signal`."""
        pid = self._process.pid
        if self._process.returncode is not None and Path(f"/proc/{pid}").exists():
            return  # it has ended, and its number is another's: as long as something is left of its group there is none
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)

    def resize(self, columns: int, rows: int) -> None:
        """See `GuestCommand.resize`."""
        assert self._terminal is not None
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """See `GuestCommand.close`: it is hung up, unless a suspend has cut it off."""
        if not self._is_cut_off.is_set():
            self.signal(signal.SIGHUP)

    def cut_off(self) -> None:
        """Let nothing more be heard of it, as when a microVM is suspended."""
        self._is_cut_off.set()

    async def end(self) -> None:
        """Kill it, with all that it has started."""
        self.signal(signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
