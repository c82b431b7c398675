"""Which rows have changed: told to listeners in the event loop when the transaction has ended.

A listener learns that something is another now, not what: it reads the row itself. So what waits for a slow one is a
set of names, and many changes of one row are one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

WAITING_MAX: Final = 4096
"""Names that wait for one listener; where there are more it is told that anything may have changed."""


class Kind(StrEnum):
    """What has changed."""

    MICROVM = "microvm"
    IMAGE = "image"
    LOG = "log"


class Change(NamedTuple):
    """Something has changed: a microVM or an image by its id, a log stream by `log_key`; None is any of its kind."""

    kind: Kind
    key: str | None


def log_key(account_id: str, group: str, stream: str) -> str:
    """Return the name of a log stream; no name has a line feed."""
    return f"{account_id}\n{group}\n{stream}"


class Listener:
    """Hears of changes; made by `Changes.listen`.

    Args:
        loop: where it waits.
        kind: of what it hears.
        keys: of what it hears; none is any of the kind.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: Kind, keys: frozenset[str]) -> None:
        self.loop = loop
        self._kind = kind
        self._keys = keys
        self._waiting: set[str | None] = set()
        self._is_there = asyncio.Event()

    def hear(self, change: Change) -> None:
        """Take a change; in the event loop."""
        if change.kind is not self._kind or not self._concerns(change.key):
            return
        if len(self._waiting) >= WAITING_MAX:
            self._waiting = {None}
        if None not in self._waiting:
            self._waiting.add(change.key)
        self._is_there.set()

    def _concerns(self, key: str | None) -> bool:
        return not self._keys or key is None or key in self._keys

    async def wait(self) -> frozenset[str | None]:
        """Wait for changes, and return the keys of all since the last call; None among them is any."""
        await self._is_there.wait()
        self._is_there.clear()
        changed, self._waiting = frozenset(self._waiting), set()
        return changed


class Changes:
    """Passes changes on to who listens. Whoever makes them may be in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()

    def tell(self, *changes: Change) -> None:
        """Say that something has changed; its transaction has ended."""
        for listener in self._listeners:
            for change in changes:
                with contextlib.suppress(RuntimeError):  # its event loop has ended
                    listener.loop.call_soon_threadsafe(listener.hear, change)

    @contextlib.contextmanager
    def listen(self, kind: Kind, *keys: str) -> Iterator[Listener]:
        """Listen for as long as the block lasts.

        Args:
            kind: to changes of this kind.
            keys: of these alone; none for all of them.
        """
        listener = Listener(asyncio.get_running_loop(), kind, frozenset(keys))
        with self._lock:
            self._listeners = (*self._listeners, listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)
