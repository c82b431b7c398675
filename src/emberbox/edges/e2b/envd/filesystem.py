"""E2B's service `filesystem.Filesystem`: names, and watches over directories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from emberbox.background import in_thread
from emberbox.edges.e2b.envd.connect import Json
from emberbox.edges.e2b.envd.entry_info import show_entry
from emberbox.edges.e2b.envd.rpc import Options
from emberbox.edges.e2b.envd.watchers import Watched, Watchers
from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.scripts import Done, run_script
from emberbox.edges.sandboxes.visit import Visit

DEPTH_MAX: Final = 100
PATH_BYTES_MAX: Final = 4095


class FilesystemService:
    """Answers its calls.

    Args:
        watchers: the watches that clients ask for news.
    """

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers

    async def stat(self, visit: Visit, message: Json) -> Json:
        """`Stat`: a link is not followed."""
        return {"entry": await show(visit, entries.STAT, read_path(message))}

    async def list_directory(self, visit: Visit, message: Json) -> Json:
        """`ListDir`."""
        depth = message.get("depth") or 1
        if not isinstance(depth, int) or not 1 <= depth <= DEPTH_MAX:
            raise CallError(Code.INVALID_ARGUMENT, f"depth must be 1 to {DEPTH_MAX}")
        path = read_path(message)
        done = await run_script(visit, entries.LIST, path, str(depth))
        found = [] if done.exit_code in _MEANINGS else await in_thread(_show_all, done.output)
        if not found:
            check(done, path)  # else something in it cannot be read, and the rest is told
        return {"entries": found}

    async def make_directory(self, visit: Visit, message: Json) -> Json:
        """`MakeDir`, with those above it."""
        return {"entry": await show(visit, entries.MAKE_DIRECTORY, read_path(message))}

    async def move(self, visit: Visit, message: Json) -> Json:
        """`Move`, as rename(2) does it."""
        source, destination = read_path(message, "source"), read_path(message, "destination")
        return {"entry": await show(visit, entries.MOVE, source, destination)}

    async def remove(self, visit: Visit, message: Json) -> Json:
        """`Remove`, with all that is in it; what is not there is no error."""
        path = read_path(message)
        if path == "/":
            raise CallError(Code.INVALID_ARGUMENT, "the root directory cannot be removed")
        check(await run_script(visit, entries.REMOVE, path), path)
        return {}

    # --- watches

    async def watch(self, visit: Visit, message: Json, options: Options) -> AsyncIterator[Json]:
        """`WatchDir`: what happens, as it happens."""
        watcher = await self._watchers.open(visit, read_watched(message))
        try:
            yield {"start": {}}
            while True:
                for event in await watcher.wait(options.keepalive_s):
                    yield {"filesystem": event}
                if not watcher.is_heard:
                    raise CallError(Code.UNAVAILABLE, "the connection to the sandbox ended: it was paused or killed")
                yield {"keepalive": {}}
        finally:
            await self._watchers.remove(visit.sandbox.id, watcher.id)

    async def create_watcher(self, visit: Visit, message: Json) -> Json:
        """`CreateWatcher`."""
        return {"watcherId": (await self._watchers.open(visit, read_watched(message))).id}

    async def get_events(self, visit: Visit, message: Json) -> Json:
        """`GetWatcherEvents`: those since the last time, also what a pause has kept from being heard."""
        watcher = self._watchers.find(visit.sandbox.id, str(message.get("watcherId")))
        await watcher.go_on()
        return {"events": watcher.take()}

    async def remove_watcher(self, visit: Visit, message: Json) -> Json:
        """`RemoveWatcher`."""
        watcher = self._watchers.find(visit.sandbox.id, str(message.get("watcherId")))
        await self._watchers.remove(visit.sandbox.id, watcher.id)
        return {}


def read_path(message: Json, name: str = "path") -> str:
    """Return a path of a message.

    Raises:
        CallError: there is none, or it is too long.
    """
    path = message.get(name)
    if not isinstance(path, str) or "\0" in path or len(path.encode(errors="replace")) > PATH_BYTES_MAX:
        raise CallError(Code.INVALID_ARGUMENT, f"{name} must have at most {PATH_BYTES_MAX} bytes, none of them zero")
    return entries.normalise(path)


def read_watched(message: Json) -> Watched:
    """Return what is to be watched.

    Raises:
        CallError: the path is malformed.
    """
    return Watched(read_path(message), message.get("recursive") is True, message.get("includeEntry") is True)


def _show_all(listed: bytes) -> list[Json]:
    return [show_entry(entry) for entry in entries.read_entries(listed)]


async def show(visit: Visit, script: str, *paths: str) -> Json:
    """Run a script that shows one entry, and return that.

    Raises:
        CallError: it failed.
    """
    done = await run_script(visit, script, *paths)
    check(done, paths[0])
    return show_entry(entries.read_entries(done.output)[0])


_MEANINGS: Final = {
    entries.NOT_THERE: (Code.NOT_FOUND, "file or directory not found: {path}"),
    entries.NOT_A_DIRECTORY: (Code.INVALID_ARGUMENT, "path is not a directory: {path}"),
    entries.IS_THERE: (Code.ALREADY_EXISTS, "directory already exists: {path}"),
    entries.IN_THE_WAY: (Code.INVALID_ARGUMENT, "something is in the way of {path}, at its destination"),
}


def check(done: Done, path: str) -> None:
    """Refuse what a script could not do.

    Raises:
        CallError: it failed.
    """
    if not done.exit_code:
        return
    if done.exit_code in _MEANINGS:
        code, text = _MEANINGS[done.exit_code]
        raise CallError(code, text.format(path=path))
    if "ermission denied" in done.errors:
        raise CallError(Code.PERMISSION_DENIED, done.errors)
    raise CallError(Code.INTERNAL, done.errors or f"{path}: it failed with {done.exit_code}")
