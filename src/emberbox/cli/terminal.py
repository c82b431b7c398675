"""This process's own terminal and standard input, for commands in a microVM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emberbox_sdk import AsyncCommand

STDIN, STDOUT, STDERR = 0, 1, 2
_CHUNK_BYTES = 1 << 16


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Pass every key on as it is; the terminal is as before when the block ends, however it ends."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def find_size() -> tuple[int, int] | None:
    """Return columns and rows of the terminal; None when there is none."""
    for file in (STDIN, STDOUT, STDERR):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(file)
            return columns, rows
    return None


_sending: set[asyncio.Task[None]] = set()


def send_soon(sending: Coroutine[Any, Any, None]) -> None:
    """Send from a signal handler; that the command has ended in between is no error."""
    task = asyncio.ensure_future(_quietly(sending))
    _sending.add(task)
    task.add_done_callback(_sending.discard)


async def _quietly(sending: Awaitable[None]) -> None:
    from emberbox_sdk.errors import DisconnectedError

    with contextlib.suppress(DisconnectedError):
        await sending


@contextlib.contextmanager
def follow_size(command: AsyncCommand) -> Iterator[None]:
    """Tell a command the terminal's size, now and whenever it changes."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        size = find_size()
        if size is not None:
            send_soon(command.resize(*size))

    tell()
    loop.add_signal_handler(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def pass_input(command: AsyncCommand, at_end: Callable[[], Awaitable[None]]) -> None:
    """Send what comes on the standard input, from a thread: a plain file cannot be waited for.

    The thread ends with the process, as nothing else ends a read of a terminal.

    Args:
        command: gets it; a slow one slows the reading down.
        at_end: what is done after the last of it.
    """
    loop = asyncio.get_running_loop()

    def do(sending: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_quietly(sending), loop).result()

    def read() -> None:
        with contextlib.suppress(RuntimeError, CancelledError):  # the loop has ended
            while data := os.read(STDIN, _CHUNK_BYTES):
                do(command.send(data))
            do(at_end())

    threading.Thread(target=read, daemon=True).start()


async def show(command: AsyncCommand) -> int:
    """Write what a command writes, and return its exit code.

    Raises:
        DisconnectedError: it was cut off; the text says why.
    """
    async for output in command:
        write_all(STDERR if output.stream == "stderr" else STDOUT, output.data)
    assert command.exit_code is not None
    return command.exit_code


def write_all(file: int, data: bytes) -> None:
    """Write to a descriptor, without the buffering and the encoding of Python's files."""
    while data:
        data = data[os.write(file, data) :]
