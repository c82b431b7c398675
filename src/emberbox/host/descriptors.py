"""Open files of other processes: pidfd_getfd(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from emberbox.model.errors import HostError

_PIDFD_GETFD: Final = 438  # the same on every architecture


def take_descriptor(pid: int, path: str) -> int:
    """Return a descriptor of the open file that another process has, as if by dup(2); the caller closes it.

    Args:
        pid: the process; ptrace(2) of it must be allowed.
        path: what its link in /proc names; the first of them is taken.

    Raises:
        HostError: there is none, or it may not be taken.
    """
    try:
        number = next(int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(link) == path)  # noqa: PTH115 - a name, no path
        process = os.pidfd_open(pid)
    except (OSError, StopIteration) as error:
        raise HostError(f"process {pid} has {path} not open") from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        taken = int(libc.syscall(_PIDFD_GETFD, process, number, 0))
    finally:
        os.close(process)
    if taken < 0:
        raise HostError(f"{path} of process {pid} cannot be taken over: {os.strerror(ctypes.get_errno())}")
    return taken
