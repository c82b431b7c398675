"""What a server that was killed leaves running: VMM processes, found again by their pid files."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

log = logging.getLogger(__name__)

PID_FILE = "vmm.pid"


def write_pid_file(directory: Path, pid: int) -> None:
    """Note a process together with its start time: a pid alone may come to mean another process."""
    (directory / PID_FILE).write_text(f"{pid} {_start_time(pid)}")


def kill_leftovers(home: Path) -> int:
    """Kill every VMM that an earlier server of this home left; return how many there were."""
    killed = 0
    for path in [*home.glob(f"microvms/*/{PID_FILE}"), *home.glob(f"builds/**/{PID_FILE}")]:
        with contextlib.suppress(OSError, ValueError):
            pid, started = (int(word) for word in path.read_text().split())
            if _start_time(pid) == started:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        path.unlink(missing_ok=True)
    if killed:
        log.warning("%d VMM processes of an earlier server were ended", killed)
    return killed


def _start_time(pid: int) -> int:
    """Return a process's start, in clock ticks since boot (proc_pid_stat(5), field 22)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
