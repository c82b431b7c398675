"""What differs between the two kinds of API beyond `await`: this is the one for threads (see `_async/platform.py`)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection as WebSocket
from websockets.sync.client import connect

__all__ = [
    "ConnectionClosed",
    "HttpClient",
    "Lock",
    "WebSocket",
    "beside",
    "connect",
    "in_thread",
    "read_in_thread",
    "receive",
    "sleep",
    "time_limit",
]

HttpClient = httpx2.Client
Lock = threading.Lock
sleep = time.sleep

_JOIN_S = 5.0

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> T:
    """Do what blocks, such as reading a disk."""
    return work()


def read_in_thread(pieces: Iterator[bytes], work: Callable[[Callable[[], bytes]], T]) -> T:
    """Do something with a stream: `work` is given what returns its next piece, and an empty one at the end."""
    return work(lambda: next(pieces, b""))


def receive(websocket: WebSocket, timeout_s: float | None) -> bytes | str:
    """Return the next message.

    Raises:
        TimeoutError: none came in time.
    """
    return websocket.recv(timeout_s)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[Callable[[], None]]:
    """Bound a block that reads a stream; the block calls what it is given for each piece that it has read.

    Nothing interrupts a thread that waits, so the block also bounds each single read by `seconds`.

    Raises:
        TimeoutError: it took longer.
    """
    deadline = None if seconds is None else time.monotonic() + seconds

    def check() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError

    yield check


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do something while the block runs; the block sees to it that the work ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(_JOIN_S)
