"""Processes that outlive a server that is killed: noted when they are started, found again by the next server.

A process id alone may come to mean another process, so a note also has the start time. And the notes in a copy of a
state directory name processes that are not the copy's own, so a process is taken only when its errors still go to the
log beside its note: to that very file, whatever its path.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberbox.model.errors import HostError
from emberbox.process.watched import WatchedProcess, ends_within
from emberbox.time_limits import limit_s

ENDED_UNSEEN = 1 << 16
"""Stands for the exit code of a process that is not our child: only its end can be seen."""


class AdoptedProcess(WatchedProcess):
    """A process that an earlier server started."""

    @property
    def returncode(self) -> int | None:
        """None while it runs, then `ENDED_UNSEEN`."""
        return ENDED_UNSEEN if self._has_ended() else None

    async def kill_group(self) -> None:
        """Kill it with its session and wait until it has ended; repeats are harmless."""
        if self.returncode is None:  # only then is the id sure to mean this session
            self._kill_session()
        await self.wait()


@dataclass(frozen=True, slots=True)
class ProcessNote:
    """A note about a process; `more` is what its next owner has to know."""

    pid: int
    started: int
    more: dict[str, Any]


def write_note(path: Path, pid: int, **more: Any) -> None:
    """Note a process that runs, all at once.

    Raises:
        OSError: the disk is full, or there is no such process.
    """
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps({"pid": pid, "started": _start_time(pid), **more}))
    scratch.replace(path)


def read_note(path: Path) -> ProcessNote | None:
    """Return a note; None when there is none, or one that was being written when the machine stopped."""
    try:
        noted = json.loads(path.read_text())
        return ProcessNote(int(noted.pop("pid")), int(noted.pop("started")), noted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_process(path: Path, log_path: Path) -> AdoptedProcess | None:
    """Return the process that a note names, if that very process still runs.

    Args:
        path: the note.
        log_path: the file that the process writes its errors to.
    """
    note = read_note(path)
    if note is None:
        return None
    try:
        handle = os.pidfd_open(note.pid)
    except OSError:
        return None
    found = AdoptedProcess(note.pid, handle)
    try:
        is_it = _start_time(note.pid) == note.started and Path(f"/proc/{note.pid}/fd/2").samefile(log_path)
    except OSError:  # it ended, or it is another user's
        return None
    return found if is_it and found.returncode is None else None


def descendant_pids(pid: int) -> list[int]:
    """Return the ids of all processes that a process has started, and of those that they have."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                children.setdefault(_parent(entry), []).append(int(entry.name))
    parents = [pid]
    for parent in parents:
        parents += children.get(parent, [])
    return parents[1:]


def descendants(pid: int) -> list[AdoptedProcess]:
    """Return the same processes, to be waited for or ended."""
    found = []
    for started in descendant_pids(pid):
        with contextlib.suppress(OSError):
            found.append(AdoptedProcess(started, os.pidfd_open(started)))
    return found


def _parent(entry: Path) -> int:
    return int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def tools_of(scratch: Collection[Path]) -> list[int]:
    """Return the processes whose directory for temporary files is, or is in, one of these: tools of ours."""
    wanted = [f"TMPDIR={path}".encode() for path in scratch]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(row == want or row.startswith(want + b"/") for row in variables for want in wanted):
                    found.append(int(entry.name))
    return found


def error_logs() -> Iterator[tuple[int, str]]:
    """Return, for each process that may be looked at, its id and the file that its errors go to.

    So even a process is found that was started just before its server was killed, and never noted.
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                yield int(entry.name), os.readlink(entry / "fd" / "2")  # noqa: PTH115 - its name may say "(deleted)"


def end_process(pid: int, timeout_s: float = limit_s(30.0)) -> None:
    """Kill a process that is not our child, and wait until it is gone.

    Raises:
        HostError: it does not end, or belongs to another user.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not ends_within(handle, timeout_s):
            raise HostError(f"process {pid} of an earlier server does not end; kill it by hand")
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise HostError(f"process {pid} of an earlier server belongs to another user; end it as that user") from error
    finally:
        os.close(handle)


def _start_time(pid: int) -> int:
    """Return a process's start, in clock ticks since boot (proc_pid_stat(5), field 22; field 2 may hold blanks)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
