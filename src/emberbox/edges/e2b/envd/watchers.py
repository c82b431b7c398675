"""Watches over directories of sandboxes.

A script there compares listings, and writes one whenever it has changed; here, what lies between two of them becomes
events, as inotify would have told them. What is made and removed between two looks is not seen.
"""

from __future__ import annotations

import asyncio
import posixpath
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emberbox.background import in_thread
from emberbox.edges.e2b.envd.connect import Json
from emberbox.edges.e2b.envd.entry_info import show_entry
from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.entries import Entry
from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.scripts import TIMEOUT_S, Done, check_started
from emberbox.edges.sandboxes.visit import Visit
from emberbox.guest.streams import STDOUT, GuestCommand
from emberbox.model.errors import GuestError

EVERY_S: Final = 0.3
EVENTS_MAX: Final = 10_000
PICTURE_BYTES_MAX: Final = 4 << 20
WATCHERS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched.

    Args:
        path: of the directory.
        recursive: also what is in directories below it.
        tells_entries: what is there now is told with each event.
    """

    path: str
    recursive: bool
    tells_entries: bool


class Watcher:
    """One watch.

    Attributes:
        id: a client's name for it.
        is_heard: whether news still come: no pause has cut it off.

    Args:
        visit: whose it is.
        watched: what.
    """

    def __init__(self, visit: Visit, watched: Watched) -> None:
        self.id = uuid.uuid4().hex
        self.is_heard = False
        self._visit = visit
        self._watched = watched
        self._base = ""
        self._before: list[Entry] | None = None
        self._events: list[Json] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def go_on(self) -> None:
        """Begin to watch, or go on where a pause has cut it off; return when what is there is known.

        Raises:
            CallError: there is no such directory.
            Unreachable: the sandbox does not run.
        """
        if self.is_heard:
            return
        await self.close()
        depth = entries.EVERY_LEVEL if self._watched.recursive else 1
        asked = (entries.WATCH, self._watched.path, str(depth), f"{EVERY_S:g}")
        command = await self._visit.open_script(*asked)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._pump(command, started))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await started
        except TimeoutError:
            await self.close()
            raise CallError(Code.DEADLINE_EXCEEDED, f"the sandbox did not answer within {TIMEOUT_S:g} s") from None

    async def _pump(self, command: GuestCommand, started: asyncio.Future[None]) -> None:
        self._base, held, errors = "", bytearray(), b""
        try:
            while (received := await command.read()) is not None:
                which, data = received
                if which != STDOUT:
                    errors = (errors + data)[:1000]
                    continue
                held += data
                if len(held) > PICTURE_BYTES_MAX:
                    raise CallError(Code.RESOURCE_EXHAUSTED, "there is too much in the directory to watch it")
                while entries.PICTURE_END in held:
                    picture, _, rest = held.partition(entries.PICTURE_END)
                    held = bytearray(rest)
                    if not self._base:
                        self._base = entries.normalise(picture.decode(errors="replace"))
                        continue
                    await self._see(bytes(picture))
                    self.is_heard = True
                    if not started.done():
                        started.set_result(None)
            _check_end(command.exit_code, errors, self._watched.path)
        except (GuestError, CallError) as error:
            if not started.done():
                started.set_exception(error)
        finally:
            self.is_heard = False
            self._news.set()
            command.close()

    async def _see(self, picture: bytes) -> None:
        now = await in_thread(entries.read_picture, picture)
        if self._before is not None:
            for path, kind, entry in await in_thread(compare, self._before, now):
                self._tell(path, kind, entry)
        self._before = now

    def _tell(self, path: str, kind: str, entry: Entry | None) -> None:
        event: Json = {"name": posixpath.relpath(path, self._base), "type": f"EVENT_TYPE_{kind}"}
        if self._watched.tells_entries and entry is not None:
            event["entry"] = show_entry(entry)
        if len(self._events) < EVENTS_MAX:  # a client that never asks does not fill the server's memory
            self._events.append(event)
        self._news.set()

    def take(self) -> list[Json]:
        """Return what has happened since the last time."""
        taken, self._events = self._events, []
        self._news.clear()
        return taken

    async def wait(self, within_s: float | None) -> list[Json]:
        """Return what happens next; nothing where nothing does for so long, or nothing more is heard."""
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            return []
        return self.take()

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


def _check_end(exit_code: int, errors: bytes, path: str) -> None:
    told = errors.decode(errors="replace").strip()
    check_started(Done(exit_code, b"", told))
    if exit_code == entries.NOT_A_DIRECTORY:
        raise CallError(Code.INVALID_ARGUMENT, f"path is not a directory: {path}")
    raise CallError(Code.NOT_FOUND, f"directory not found: {path}")


def compare(before: Iterable[Entry], now: Iterable[Entry]) -> list[tuple[str, str, Entry | None]]:
    """Return what must have happened between two listings: path, kind, and what is there now."""
    old, new = ({entry.path: entry for entry in listed} for listed in (before, now))
    went = [entry for path, entry in old.items() if path not in new or new[path].inode != entry.inode]
    came = [entry for path, entry in new.items() if path not in old or old[path].inode != entry.inode]
    arrived = {entry.inode for entry in came}
    found: list[tuple[str, str, Entry | None]] = [
        (entry.path, "RENAME" if entry.inode in arrived else "REMOVE", None)
        for entry in went
        if entry.path not in new or entry.inode in arrived
    ]
    left = {entry.inode for entry in went}
    for entry in came:
        found.append((entry.path, "CREATE", entry))
        if entry.size and entry.inode not in left and not entry.is_directory:
            found.append((entry.path, "WRITE", entry))
    for path in old.keys() & new.keys():
        found += [(path, kind, new[path]) for kind in _changes(old[path], new[path])]
    return found


def _changes(old: Entry, new: Entry) -> list[str]:
    if old.inode != new.inode:
        return []
    kinds = []
    if not new.is_directory and (old.size, old.modified) != (new.size, new.modified):
        kinds.append("WRITE")
    if (old.mode, old.owner, old.group) != (new.mode, new.owner, new.group):
        kinds.append("CHMOD")
    return kinds


class Watchers:
    """All watches, by sandbox."""

    def __init__(self) -> None:
        self._by_sandbox: dict[str, dict[str, Watcher]] = {}

    async def open(self, visit: Visit, watched: Watched) -> Watcher:
        """Begin a watch.

        Raises:
            CallError: there is no such directory, or there are too many watches.
        """
        if len(self._by_sandbox.get(visit.sandbox.id, {})) >= WATCHERS_MAX:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"a sandbox has at most {WATCHERS_MAX} watches: stop one")
        watcher = Watcher(visit, watched)
        await watcher.go_on()
        self._by_sandbox.setdefault(visit.sandbox.id, {})[watcher.id] = watcher
        return watcher

    def find(self, sandbox_id: str, watcher_id: str) -> Watcher:
        """Return a watch.

        Raises:
            CallError: there is none.
        """
        found = self._by_sandbox.get(sandbox_id, {}).get(watcher_id)
        if found is None:
            raise CallError(Code.NOT_FOUND, f"watcher with id {watcher_id} not found")
        return found

    async def remove(self, sandbox_id: str, watcher_id: str) -> None:
        """End a watch."""
        watcher = self._by_sandbox.get(sandbox_id, {}).pop(watcher_id, None)
        if watcher is not None:
            await watcher.close()

    def sandboxes(self) -> list[str]:
        """Return the sandboxes that have any."""
        return list(self._by_sandbox)

    async def forget_sandbox(self, sandbox_id: str) -> None:
        """End the watches in a sandbox that has ended."""
        for watcher in self._by_sandbox.pop(sandbox_id, {}).values():
            await watcher.close()

    async def close(self) -> None:
        """End all."""
        for sandbox_id in self.sandboxes():
            await self.forget_sandbox(sandbox_id)
