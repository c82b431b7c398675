"""This process's own terminal and standard input, for sessions in a microVM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError

from websockets.exceptions import ConnectionClosed

STDIN, STDOUT, STDERR = 0, 1, 2
_CHUNK_BYTES = 1 << 16

Send = Callable[[bytes | str], Awaitable[None]]


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


def resize_message() -> str | None:
    """Return the message that tells the terminal's size; None when there is no terminal."""
    for file in (STDIN, STDOUT, STDERR):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(file)
            return json.dumps({"type": "resize", "cols": columns, "rows": rows})
    return None


_sending: set[asyncio.Task[None]] = set()


def send_soon(send: Send, message: str) -> None:
    """Send from a signal handler."""
    task = asyncio.ensure_future(_send(send, message))
    _sending.add(task)
    task.add_done_callback(_sending.discard)


async def _send(send: Send, message: bytes | str) -> None:
    with contextlib.suppress(ConnectionClosed):  # the session has ended
        await send(message)


@contextlib.contextmanager
def follow_size(send: Send) -> Iterator[None]:
    """Send the terminal's size, now and whenever it changes."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        message = resize_message()
        if message is not None:
            send_soon(send, message)

    tell()
    loop.add_signal_handler(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def pass_input(send: Send, at_end: str | None) -> None:
    """Send what comes on the standard input, from a thread: a plain file cannot be waited for.

    The thread ends with the process, as nothing else ends a read of a terminal.

    Args:
        send: takes bytes; a slow one slows the reading down.
        at_end: sent after the last of them.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(RuntimeError, CancelledError):  # the loop has ended
            while data := os.read(STDIN, _CHUNK_BYTES):
                asyncio.run_coroutine_threadsafe(_send(send, data), loop).result()
            if at_end is not None:
                asyncio.run_coroutine_threadsafe(_send(send, at_end), loop).result()

    threading.Thread(target=read, daemon=True).start()


def write_all(file: int, data: bytes) -> None:
    """Write to a descriptor, without the buffering and the encoding of Python's files."""
    while data:
        data = data[os.write(file, data) :]
