"""Control groups around sandboxes of builds: the limits that the host's kernel itself holds them to.

With version 2 of cgroups a sandbox has one group, with version 1 one for each controller (kernel documentation,
"Control Group v2" and "Control Groups version 1").
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from emberbox.images.sandbox.base import Limits
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

_MOUNTED: Final = Path("/sys/fs/cgroup")
_CONTROLLERS: Final = ("memory", "pids", "cpu")
_PERIOD_US: Final = 100_000
_SHARE: Final = 50
"""Of 100: where processors are scarce, a build gets half of what another group of processes gets."""

_REMOVE_TIMEOUT_S = limit_s(10.0)
_REMOVE_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Passed:
    """Which limits the kernel has held a group to."""

    memory: bool
    processes: bool


class Group(Protocol):
    """What one sandbox is held in."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """Its groups; whoever writes `0` into `cgroup.procs` of each is in it, with all that it starts."""
        ...

    def read_passed(self) -> Passed:
        """Return what has been passed so far."""
        ...


class Groups:
    """Makes groups, below the server's own with version 1, beside it or above with version 2.

    Args:
        home: of the server; its groups are named after it, so that the next server removes what is left of them.
        mounted: where the kernel's control groups are mounted.
        own: a file that says in which of them this process is (cgroups(7), /proc/pid/cgroup).
    """

    def __init__(self, home: Path, mounted: Path = _MOUNTED, own: Path = Path("/proc/self/cgroup")) -> None:
        self._prefix = name_prefix(home)
        self._mounted = mounted
        self._own = own
        self._numbers = itertools.count(os.getpid() << 20)
        self._parents: tuple[Path, ...] | None = None

    @contextlib.asynccontextmanager
    async def around(self, limits: Limits) -> AsyncIterator[Group | None]:
        """Give a group for as long as the block lasts; what is in it must have ended then.

        Args:
            limits: of memory, processes and processors.

        Returns:
            None where this server can make none; the log says so once.
        """
        group = self._make(limits)
        try:
            yield group
        finally:
            for directory in group.directories if group is not None else ():
                await _remove(directory)

    def _make(self, limits: Limits) -> Group | None:
        if self._parents is None:
            self._parents = self._find_parents()
            self._remove_left()
        if not self._parents:
            return None
        directories = tuple(parent / f"{self._prefix}{next(self._numbers)}" for parent in self._parents)
        made: Group = OneGroup(*directories) if len(directories) == 1 else GroupOfEach(directories)
        try:
            for directory in directories:
                directory.mkdir()
            _write(made, limits)
        except OSError as error:
            log.warning("builds are not held in control groups, and are watched instead: %s", error)
            self._parents = ()
            for directory in directories:
                with contextlib.suppress(OSError):
                    directory.rmdir()
            return None
        return made

    def _remove_left(self) -> None:
        """Remove what an earlier server of this home had no time to remove."""
        for left in (left for parent in self._parents or () for left in parent.glob(f"{self._prefix}*")):
            with contextlib.suppress(OSError):  # something in it has not ended yet
                left.rmdir()

    def _find_parents(self) -> tuple[Path, ...]:
        own = dict(_read_own(self._own))
        if (self._mounted / "cgroup.controllers").exists():
            found = next((parent for parent in _above(self._mounted, own.get("", "/")) if _hands_down(parent)), None)
            parents = () if found is None else (found,)
        else:
            parents = tuple(_below(self._mounted / name, own.get(name, "/")) for name in _CONTROLLERS)
            parents = parents if all((parent / "cgroup.procs").exists() for parent in parents) else ()
        if not parents:
            log.warning("builds are not held in control groups, and are watched instead: this server can use none")
        return parents


def name_prefix(home: Path) -> str:
    """Return what the names of all groups of a server begin with."""
    return f"emberbox-build-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]}-"


def _read_own(file: Path) -> Iterator[tuple[str, str]]:
    """Return the path of each controller's group; that of version 2 has no name."""
    for line in file.read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            yield name, path


def _below(mounted: Path, path: str) -> Path:
    """Return a group of version 1; in a container the path may be one that only the host sees."""
    inner = mounted / path.lstrip("/")
    return inner if inner.is_dir() else mounted


def _above(mounted: Path, path: str) -> Iterator[Path]:
    """Return the groups above one, the nearest first: one that has processes hands no controllers down itself."""
    inner = Path(path.lstrip("/"))
    yield from (mounted / above for above in (inner.parents or (Path(),)))


def _hands_down(parent: Path) -> bool:
    """Let groups below have the controllers; say whether they have."""
    control = parent / "cgroup.subtree_control"
    try:
        if not set(_CONTROLLERS) <= set(control.read_text().split()):
            control.write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
    except OSError:
        return False
    return True


async def _remove(directory: Path) -> None:
    """Remove a group once the kernel is through with those that were in it."""
    try:
        async with asyncio.timeout(_REMOVE_TIMEOUT_S):
            while True:
                with contextlib.suppress(OSError):
                    directory.rmdir()
                if not directory.exists():
                    return
                await asyncio.sleep(_REMOVE_POLL_S)
    except TimeoutError:
        log.warning("the control group %s of a build is still in use", directory)


# --- the two forms


@dataclass(frozen=True, slots=True)
class OneGroup:
    """A group of version 2."""

    directory: Path

    @property
    def directories(self) -> tuple[Path, ...]:
        """See `Group`."""
        return (self.directory,)

    def read_passed(self) -> Passed:
        """See `Group`."""
        killed = _read_count(self.directory / "memory.events", "oom_kill")
        return Passed(killed > 0, _read_count(self.directory / "pids.events", "max") > 0)


@dataclass(frozen=True, slots=True)
class GroupOfEach:
    """Groups of version 1, in the order of `_CONTROLLERS`."""

    directories: tuple[Path, ...]

    def read_passed(self) -> Passed:
        """See `Group`."""
        memory, pids, _ = self.directories
        killed = _read_count(memory / "memory.oom_control", "oom_kill")
        return Passed(killed > 0, _read_count(pids / "pids.events", "max") > 0)


def _read_count(file: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _write(group: Group, limits: Limits) -> None:
    """Set what the kernel holds a group to. Of swap there is none, but not every kernel counts it."""
    quota_us, tasks = int(limits.processors * _PERIOD_US), limits.host_tasks()
    if isinstance(group, OneGroup):
        at = group.directory
        (at / "memory.max").write_text(str(limits.memory_bytes))
        (at / "memory.oom.group").write_text("1")
        (at / "pids.max").write_text(str(tasks))
        (at / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        (at / "cpu.weight").write_text(str(_SHARE))
        _write_if_there(at / "memory.swap.max", "0")
    else:
        memory, pids, cpu = group.directories
        (memory / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
        (pids / "pids.max").write_text(str(tasks))
        (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        (cpu / "cpu.shares").write_text(str(_SHARE * 1024 // 100))
        _write_if_there(memory / "memory.memsw.limit_in_bytes", str(limits.memory_bytes))


def _write_if_there(file: Path, value: str) -> None:
    if file.exists():
        file.write_text(value)
