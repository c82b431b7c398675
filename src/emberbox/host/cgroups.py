"""Limits of memory, processors and processes around a process and all that it starts, by the kernel's cgroups.

Groups are made below the one that this process is in, so what holds it holds them too. Version 2 is used where it has a
controller, version 1 where that has it; some machines have both. In version 2 a group with processes in it cannot have
limited groups below it, so this process and what it has started then move into one of their own (`open_places`).

A process enters a group by itself: it is given descriptors (`Group.open`) and writes "0" to each, so nothing that it
starts can be outside. Names have the tag of a home: what an earlier server left is found by it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from emberbox.process.adoption import descendant_pids

CONTROLLERS: Final = ("memory", "cpu", "pids")
CONTROLLER_NAMES: Final[Mapping[str, str]] = {"memory": "memory", "cpu": "processors", "pids": "processes"}
_PERIOD_US: Final = 100_000
_PROC: Final = Path("/proc")
_PREFIX: Final = "emberbox-"
_OWN: Final = f"{_PREFIX}server"
_REMOVE_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use.

    Args:
        memory_bytes: of memory, files that are cached for it and its sockets included; what asks for more is killed.
        processors: as many seconds of processor time in a second; what would use more waits.
        processes: and threads at a time; starting more fails.
        share: of processors that are scarce, as a part of a hundred of what another group gets.
    """

    memory_bytes: int
    processors: float
    processes: int
    share: int = 100


class Passed(NamedTuple):
    """Which limits a group has been held to, so far."""

    memory: bool = False
    processes: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in which groups can be made.

    Args:
        path: the directory, this process's own group.
        controllers: what can be limited in it.
        unified: it is of version 2.
    """

    path: Path
    controllers: tuple[str, ...]
    unified: bool


_OLD_FILES: Final[Mapping[str, Callable[[Limits], Mapping[str, str]]]] = {
    "memory": lambda limits: {"memory.limit_in_bytes": str(limits.memory_bytes)},
    "cpu": lambda limits: {
        "cpu.cfs_period_us": str(_PERIOD_US),
        "cpu.cfs_quota_us": str(_quota_us(limits)),
        "cpu.shares": str(limits.share * 1024 // 100),
    },
    "pids": lambda limits: {"pids.max": str(limits.processes)},
}
_FILES: Final[Mapping[str, Callable[[Limits], Mapping[str, str]]]] = {
    "memory": lambda limits: {"memory.max": str(limits.memory_bytes)},
    "cpu": lambda limits: {"cpu.max": f"{_quota_us(limits)} {_PERIOD_US}", "cpu.weight": str(limits.share)},
    "pids": lambda limits: {"pids.max": str(limits.processes)},
}
_SWAP: Final[Mapping[bool, Callable[[Limits], tuple[str, str]]]] = {
    False: lambda limits: ("memory.memsw.limit_in_bytes", str(limits.memory_bytes)),
    True: lambda _limits: ("memory.swap.max", "0"),
}
"""Not there where the kernel counts no swap: then there is none, or what is swapped is beyond the limit."""

_COUNTS: Final = {
    "memory": (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")),
    "processes": (("pids.events", "max"),),
}
"""What the kernel counts where a limit was reached (kernel documentation, "Control Group v2" and "Control Groups
version 1")."""


def _quota_us(limits: Limits) -> int:
    return int(limits.processors * _PERIOD_US)


class Group:
    """One group: a directory in each place.

    Args:
        directories: they.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = tuple(directories)

    def open(self, opened: contextlib.ExitStack) -> tuple[int, ...]:
        """Return what a process enters it by: descriptors, each to be written "0" to.

        Raises:
            OSError: it is gone.
        """
        fds = []
        for directory in self.directories:
            fds.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            opened.callback(os.close, fds[-1])
        return tuple(fds)

    def read_passed(self) -> Passed:
        """Say what the kernel has held it to: killed something for memory, or let it start nothing more."""
        return Passed(**{name: any(map(self._is_counted, counts)) for name, counts in _COUNTS.items()})

    def _is_counted(self, count: tuple[str, str]) -> bool:
        name, wanted = count
        lines = (line for directory in self.directories for line in _read(directory / name).splitlines())
        return any(key == wanted and value != "0" for key, _, value in (line.partition(" ") for line in lines))

    def remove(self) -> None:
        """Remove it; repeats are harmless. It blocks for a moment where the last of its processes is just ending."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        for directory in self.directories:
            while not _is_removed(directory) and time.monotonic() < deadline:
                time.sleep(_RETRY_S)


def _is_removed(directory: Path) -> bool:
    """Remove a directory; False where processes are in it still."""
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno not in (errno.EBUSY, errno.ENOTEMPTY)
    return True


def name_prefix(home: Path) -> str:
    """Return what the names of all groups of a server begin with."""
    return f"{_PREFIX}{hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:10]}-"


class Groups:
    """Makes groups.

    Args:
        places: where; none limits nothing.
        home: the server's.
    """

    def __init__(self, places: Sequence[Place] = (), home: Path = Path()) -> None:
        self._places = tuple(places)
        self._prefix = name_prefix(home)

    @property
    def lacks(self) -> tuple[str, ...]:
        """What cannot be limited, as people call it."""
        has = {controller for place in self._places for controller in place.controllers}
        return tuple(CONTROLLER_NAMES[controller] for controller in CONTROLLERS if controller not in has)

    def make(self, name: str, limits: Limits) -> Group:
        """Make one.

        Args:
            name: for people; it need not be the only one of that name.
            limits: what it may use.

        Raises:
            OSError: the machine has no more of them, or the place is gone; nothing is left of it.
        """
        unique = f"{self._prefix}{name}-{os.urandom(4).hex()}"
        group = Group([place.path / unique for place in self._places])
        try:
            for place, directory in zip(self._places, group.directories, strict=True):
                directory.mkdir()
                _limit(directory, place, limits)
        except OSError:
            group.remove()
            raise
        return group

    def find(self, pid: int) -> Group:
        """Return the group that a process is in, one without directories where that is none of ours."""
        found = []
        for place in self._places:
            path = _paths_of(_PROC / str(pid)).get("" if place.unified else place.controllers[0], "")
            if Path(path).name.startswith(self._prefix):
                directory = place.path / Path(path).name
                found += [directory] if directory.is_dir() else []
        return Group(found)


def _limit(directory: Path, place: Place, limits: Limits) -> None:
    table = _FILES if place.unified else _OLD_FILES
    for controller in place.controllers:
        for name, value in table[controller](limits).items():
            (directory / name).write_text(value)
    name, value = _SWAP[place.unified](limits)
    if "memory" in place.controllers and (directory / name).exists():
        (directory / name).write_text(value)


# --- where


def sweep(home: Path, proc: Path = _PROC / "self") -> None:
    """Remove what earlier servers of a home left, as far as nothing is in it any more.

    It comes before a server makes its own: one that was just made is empty, too.

    Args:
        home: the server's.
        proc: this process in proc(5).
    """
    for place in find_places(proc):
        for directory in place.path.glob(f"{name_prefix(home)}*"):
            with contextlib.suppress(OSError):
                directory.rmdir()


def find_places(proc: Path = _PROC / "self") -> list[Place]:
    """Return where groups can be made below this process's own, as far as it may write there.

    Args:
        proc: this process in proc(5).
    """
    paths, found, wanted = _paths_of(proc), list[Place](), list(CONTROLLERS)
    for mount, root, controllers in _mounts(proc):
        unified = controllers is None
        named = "" if controllers is None else next(filter(wanted.__contains__, controllers), "-")
        own = _inside(mount, root, paths.get(named, ""))
        if own is None or not os.access(own, os.W_OK):
            continue
        own = own.parent if own.name == _OWN else own
        has = _read(own / "cgroup.controllers").split() if controllers is None else controllers
        usable = tuple(each for each in wanted if each in has)
        if usable:
            found.append(Place(own, usable, unified))
            wanted = [each for each in wanted if each not in usable]
    return found


def open_places(proc: Path = _PROC / "self") -> list[Place]:
    """Return where groups can be made, after what is needed for it: in version 2, controllers are handed down.

    Args:
        proc: this process in proc(5).
    """
    return [place for place in find_places(proc) if not place.unified or _hand_down(place)]


def _hand_down(place: Place) -> bool:
    """Let the groups below a place have its controllers; no process of ours must be in it then."""
    handed = _read(place.path / "cgroup.subtree_control").split()
    if set(place.controllers) <= set(handed):
        return True
    orders, own = " ".join(f"+{each}" for each in place.controllers), place.path / _OWN
    if _write(place.path / "cgroup.subtree_control", orders):
        return True
    with contextlib.suppress(OSError):
        own.mkdir(exist_ok=True)
    moving = ["0", *_started_here(place)]
    moved = [pid for pid in moving if _write(own / "cgroup.procs", pid)]
    if moved and _write(place.path / "cgroup.subtree_control", orders):
        return True
    for pid in moved or moving:  # others are in it beside us
        _write(place.path / "cgroup.procs", pid)
    with contextlib.suppress(OSError):
        own.rmdir()
    return False


def _started_here(place: Place) -> list[str]:
    """Return the processes in a place that this one has started: a server makes its first sandbox late."""
    ours = set(map(str, descendant_pids(os.getpid())))
    return [pid for pid in _read(place.path / "cgroup.procs").split() if pid in ours]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True


def _paths_of(process: Path) -> dict[str, str]:
    """Return the groups that a process is in by controller (cgroups(7), /proc/PID/cgroup); "" is version 2."""
    found = {}
    for line in _read(process / "cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _mounts(proc: Path) -> list[tuple[Path, str, list[str] | None]]:
    """Return each mount of cgroups: where, which group it shows, and its controllers; None of version 2 (proc(5))."""
    found: list[tuple[Path, str, list[str] | None]] = []
    for line in _read(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        root, mount = before.split(" ")[3:5]
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(mount), root, None if kind == "cgroup2" else options.split(",")))
    return found


def _inside(mount: Path, root: str, path: str) -> Path | None:
    """Return where a mount shows a group; None where it does not."""
    if not path.startswith("/") or ".." in path or not Path(path).is_relative_to(root):
        return None
    return mount / Path(path).relative_to(root)
