"""Room on the disk that holds all state, and what is refused or held up when there is little.

Below the reserve nothing new begins: launches, forks, snapshots, builds. Below half of it (the floor) builds that run
are stopped and guests' writes are held up, before the disk is full: the database, the logs and the saving of microVMs
need what is left. Both end a little above where they began, so that nothing flutters.

Others may fill the disk too. For that there is ballast, a file that only takes room: it is thrown away when nearly
nothing is free, so that the server can still write down what is asked of it, such as to terminate a microVM.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from emberbox.model.errors import CapacityError, DiskFullError

log = logging.getLogger(__name__)

_GIB = 1 << 30
RESERVE_SHARE = 20
"""One part in so many of the disk is the reserve, but not less or more than these:"""
RESERVE_MIN_BYTES, RESERVE_MAX_BYTES = _GIB, 10 * _GIB

POLL_S = 0.25
"""A guest that writes 2 GB/s takes half a gigabyte in that time: the smallest floor."""

BALLAST_MAX_BYTES = 64 << 20
_BALLAST_SHARE = 8  # of the floor

_EASE = 1.1
"""How much more than its mark must be free before a level ends."""

_FULL_WORDS = ("no space left on device", "disk is full")

T = TypeVar("T")
OnChange = Callable[[bool], Awaitable[None]]


class Level(IntEnum):
    """How much room there is."""

    ENOUGH = 0
    LOW = 1  # nothing new begins
    FULL = 2  # nothing is written for guests and builds


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the disk, those that are free for us, and the marks; see the module."""

    total: int
    free: int
    reserve: int

    @property
    def floor(self) -> int:
        """Below this guests' writes are held up."""
        return self.reserve // 2

    @property
    def ballast(self) -> int:
        """How large the ballast is; it goes when no more than that is free."""
        return min(self.floor // _BALLAST_SHARE, BALLAST_MAX_BYTES)

    def level(self, before: Level) -> Level:
        """Return the level, given the one before."""
        for level, mark in ((Level.FULL, self.floor), (Level.LOW, self.reserve)):
            if self.free < mark * (_EASE if before >= level else 1):
                return level
        return Level.ENOUGH


def default_reserve(total: int) -> int:
    """Return the reserve of a disk of so many bytes."""
    return min(max(total // RESERVE_SHARE, RESERVE_MIN_BYTES), RESERVE_MAX_BYTES)


def is_full_disk(error: BaseException) -> bool:
    """Say whether an error, of ours or of a tool, is one of no room on a disk."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, DiskFullError) or any(words in str(error).lower() for words in _FULL_WORDS)


def measure(directory: Path, reserve: int | None = None) -> Room:
    """Return the room where a directory is; the reserve is that of the settings, by default one by the disk's size.

    Raises:
        OSError: there is no such directory.
    """
    status = os.statvfs(directory)
    total = status.f_blocks * status.f_frsize
    return Room(total, status.f_bavail * status.f_frsize, default_reserve(total) if reserve is None else reserve)


class DiskSpace:
    """Watches the room on the disk of a directory.

    Args:
        directory: the state directory.
        reserve: bytes; None for one by the disk's size.
    """

    def __init__(self, directory: Path, reserve: int | None = None) -> None:
        self._directory = directory
        self._ballast = directory / "runtime" / "ballast"
        self._reserve = reserve
        self._level = Level.ENOUGH
        self._changed = asyncio.Condition()
        self._listeners: list[OnChange] = []
        self._trim(self.look())  # a server that starts on a full disk needs room at once

    @property
    def is_full(self) -> bool:
        """Whether writes of guests and builds are held up."""
        return self._level is Level.FULL

    def on_full(self, listener: OnChange) -> None:
        """Let something be told when the disk is full (True) and when it no longer is."""
        self._listeners.append(listener)

    def look(self) -> Room:
        """Measure it now, and take the level from that."""
        room = measure(self._directory, self._reserve)
        level = room.level(self._level)
        if level is not self._level:
            free = f"{room.free >> 20} MiB are free, the reserve is {room.reserve >> 20} MiB"
            log.log(_LOG_LEVELS[level], "%s: %s: %s", self._directory, _WORDS[level], free)
            self._level = level
        return room

    def explain(self) -> str:
        """Say how much is free and what to do."""
        room = self.look()
        wanted = room.floor if self._level is Level.FULL else room.reserve
        return (
            f"the disk of {self._directory} has {room.free >> 20} MiB free and {int(wanted * _EASE) >> 20} MiB are "
            "needed; free some space there, terminate microVMs or delete images"
        )

    def check(self, what: str) -> None:
        """Refuse something new when there is little room.

        Args:
            what: the start of the sentence that says so, such as "A MicroVM cannot be launched".

        Raises:
            CapacityError: names the disk, what is free, what is needed, and what to do.
        """
        self.look()
        if self._level is not Level.ENOUGH:
            raise CapacityError(f"{what} now: {self.explain()}.")

    async def watch(self) -> None:
        """Measure again and again, and tell those who want to know."""
        told = False
        while True:
            with contextlib.suppress(OSError):
                self._trim(self.look())
            if self.is_full is not told:
                told = self.is_full
                await asyncio.gather(*(listener(told) for listener in self._listeners))
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(POLL_S)

    def _trim(self, room: Room) -> None:
        if self._level is Level.FULL:
            if room.free <= room.ballast:
                self._ballast.unlink(missing_ok=True)
        elif self._level is Level.ENOUGH and room.ballast and not self._ballast.exists():
            with contextlib.suppress(OSError), self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, room.ballast)

    async def wait_until(self, *, full: bool) -> None:
        """Wait until it is full, or no longer is."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_full is full)

    async def unless_full(self, work: Awaitable[T]) -> T:
        """Do some work that fills the disk; cancel it when the disk is full.

        Raises:
            DiskFullError: it is, with what to do.
        """
        task, full = asyncio.ensure_future(work), asyncio.ensure_future(self.wait_until(full=True))
        try:
            await asyncio.wait((task, full), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            raise DiskFullError(self.explain())
        finally:
            for one in (task, full):
                one.cancel()
            await asyncio.gather(task, full, return_exceptions=True)


_WORDS = {
    Level.ENOUGH: "there is room again",
    Level.LOW: "there is little room, nothing new begins",
    Level.FULL: "there is no room, builds are stopped and what microVMs write is held up",
}
_LOG_LEVELS = {Level.ENOUGH: logging.INFO, Level.LOW: logging.WARNING, Level.FULL: logging.ERROR}
