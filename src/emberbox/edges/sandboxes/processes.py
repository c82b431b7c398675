"""Commands that clients have started in sandboxes: they go on without them, and others can listen to them.

A process is known by the number that it has in its container. What it writes goes to all who listen just then; where
nobody does, it is thrown away, as E2B's daemon does it. A pause cuts everyone off: the process goes on with the
sandbox, can be listed and signalled, but what it writes is not heard any more (docs/shell.md).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from emberbox.background import Background
from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.guest.streams import STDERR, GuestCommand
from emberbox.model.errors import GuestError

CUT_OFF: Final = "the sandbox was paused or has ended"
_HELD_MAX: Final = 16
_SIGNALLED: Final = 128


@dataclass(frozen=True, slots=True)
class Config:
    """What a process is.

    Args:
        cmd: the program.
        args: its arguments.
        envs: variables.
        cwd: directory; empty for the image's.
        tag: a client's own name for it.
        has_input: whether its input is a client's.
        size: columns and rows of its terminal; None where it has none.
    """

    cmd: str
    args: tuple[str, ...] = ()
    envs: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    tag: str | None = None
    has_input: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a process has written: to `stdout`, `stderr` or `pty`."""

    where: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; a signal of a client's that ended it, else None."""

    exit_code: int
    killed_by: signal.Signals | None = None


@dataclass(frozen=True, slots=True)
class CutOff:
    """Nothing more is heard of a process."""


Event = Output | Ended | CutOff


class Listener:
    """Hears a process. A slow one slows the process down: nothing is piled up."""

    def __init__(self) -> None:
        self._held: asyncio.Queue[Event] = asyncio.Queue(_HELD_MAX)

    async def tell(self, event: Event) -> None:
        """Pass an event on, when there is room."""
        await self._held.put(event)

    async def hear(self, within_s: float | None) -> Event | None:
        """Return the next event; None when none came in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._held.get()
        except TimeoutError:
            return None

    def leave(self) -> None:
        """Let go of whoever waits for room."""
        while not self._held.empty():
            self._held.get_nowait()


class Process:
    """A command that runs.

    Attributes:
        pid: its number in the container.
        config: what it is.
        is_heard: whether its output still comes: no pause has cut it off.
        gone: set when it is not listed any more, or cut off.

    Args:
        pid: see above.
        config: see above.
        command: it.
    """

    def __init__(self, pid: int, config: Config, command: GuestCommand) -> None:
        self.pid = pid
        self.config = config
        self.is_heard = True
        self.gone = asyncio.Event()
        self._command = command
        self._listeners: list[Listener] = []
        self._input_is_open = config.has_input or config.size is not None
        self._sent: set[int] = set()
        self._deadline: asyncio.TimerHandle | None = None

    async def pump(self, first: bytes) -> None:
        """Pass on what it writes until it ends, or is cut off."""
        out = "stdout" if self.config.size is None else "pty"
        try:
            if first:
                await self._tell(Output(out, first))
            while (received := await self._command.read()) is not None:
                which, data = received
                await self._tell(Output("stderr" if which == STDERR else out, data))
            await self._tell(Ended(self._command.exit_code, self._find_killer()))
        except GuestError:
            self.is_heard = False
            await self._tell(CutOff())
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            self._command.close()

    async def _tell(self, event: Event) -> None:
        for listener in list(self._listeners):
            await listener.tell(event)

    def _find_killer(self) -> signal.Signals | None:
        number = self._command.exit_code - _SIGNALLED
        return signal.Signals(number) if number in self._sent else None

    def listen(self) -> Listener:
        """Hear what comes from now on; `leave` ends that."""
        listener = Listener()
        self._listeners.append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Hear no more."""
        self._listeners.remove(listener)
        listener.leave()

    def end_after(self, seconds: float) -> None:
        """Kill it after so many seconds."""
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.signal, signal.SIGKILL)

    # --- what clients do with it

    async def write(self, data: bytes, *, to_terminal: bool) -> None:
        """Write to its input.

        Raises:
            CallError: it has none, or has ended.
        """
        if to_terminal != (self.config.size is not None):
            raise CallError(Code.FAILED_PRECONDITION, "a terminal takes pty input, any other process stdin")
        if not self._input_is_open:
            raise CallError(Code.FAILED_PRECONDITION, "stdin is not enabled or closed: start the command with stdin")
        try:
            await self._command.write(data)
        except GuestError as error:
            raise CallError(Code.NOT_FOUND, f"process {self.pid} has ended: {error}") from error

    def end_input(self) -> None:
        """Close its input.

        Raises:
            CallError: it is a terminal, or closed already.
        """
        if self.config.size is not None:
            raise CallError(Code.FAILED_PRECONDITION, "a terminal's input cannot be closed: send it Ctrl-D (0x04)")
        if not self._input_is_open:
            raise CallError(Code.FAILED_PRECONDITION, "stdin is not enabled or closed")
        self._input_is_open = False
        self._command.end_input()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        self._sent.add(int(number))
        self._command.signal(int(number))

    def resize(self, columns: int, rows: int) -> None:
        """Set its terminal's size.

        Raises:
            CallError: it has none.
        """
        if self.config.size is None:
            raise CallError(Code.FAILED_PRECONDITION, "the process has no terminal")
        self._command.resize(columns, rows)


class Processes:
    """All processes that clients have started, by sandbox."""

    def __init__(self) -> None:
        self._by_sandbox: dict[str, dict[int, Process]] = {}
        self._background = Background()

    def add(self, sandbox_id: str, process: Process, first: bytes) -> None:
        """Take in a process that has just started, and pass on what it writes."""
        self._by_sandbox.setdefault(sandbox_id, {})[process.pid] = process
        self._background.start(self._keep(sandbox_id, process, first), f"process {process.pid} of {sandbox_id}")

    async def _keep(self, sandbox_id: str, process: Process, first: bytes) -> None:
        try:
            await process.pump(first)
        finally:
            if process.is_heard:
                self.forget(sandbox_id, process)
            process.gone.set()

    def forget(self, sandbox_id: str, process: Process) -> None:
        """Drop a process that has ended."""
        found = self._by_sandbox.get(sandbox_id, {})
        if found.get(process.pid) is process:
            del found[process.pid]
        if not found:
            self._by_sandbox.pop(sandbox_id, None)

    def forget_sandbox(self, sandbox_id: str) -> None:
        """Drop what was cut off in a sandbox that has ended."""
        self._by_sandbox.pop(sandbox_id, None)

    def sandboxes(self) -> list[str]:
        """Return the sandboxes that have any."""
        return list(self._by_sandbox)

    def list_all(self, sandbox_id: str) -> list[Process]:
        """Return the processes of a sandbox, by their numbers."""
        found = self._by_sandbox.get(sandbox_id, {})
        return [found[pid] for pid in sorted(found)]

    def find(self, sandbox_id: str, *, pid: int | None = None, tag: str | None = None) -> Process:
        """Return a process by its number or tag.

        Raises:
            CallError: there is none.
        """
        for process in self.list_all(sandbox_id):
            if process.pid == pid or (tag is not None and process.config.tag == tag):
                return process
        named = f"tag {tag}" if pid is None else f"pid {pid}"
        raise CallError(Code.NOT_FOUND, f"process with {named} not found")

    async def close(self) -> None:
        """Listen to none of them any more."""
        await self._background.close()


async def events_of(process: Process, listener: Listener, keepalive_s: float | None) -> AsyncIterator[Event | None]:
    """Yield what a process does until it ends or is cut off; None where nothing has happened for so long."""
    try:
        while True:
            event = await listener.hear(keepalive_s)
            yield event
            if isinstance(event, Ended | CutOff):
                return
    finally:
        process.leave(listener)
