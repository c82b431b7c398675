"""What a build needs of a sandbox; gVisor is one, a microVM could be another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emberbox.images.containers import BuildNetwork
from emberbox.process import OnLine

PROCESSES_MAX = 1000
"""Processes of all steps of a build together."""

_TASKS, _TASKS_OF_PROCESSOR, _TASKS_OF_PROCESS = 200, 32, 2
"""gVisor has two threads of the host for each process, and more where many processors are busy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use.

    Args:
        memory_bytes: of memory, above which it is ended.
        disk_bytes: of its store, and of the files together that it may write, above which it is ended.
        processes: at once, above which it is ended.
        timeout_s: seconds until it is ended.
        processors: as many processors' time.
    """

    memory_bytes: int
    disk_bytes: int
    processes: int
    timeout_s: float
    processors: float = 4

    def host_tasks(self) -> int:
        """Return how many threads of the host its processes may be, those of its kernel and tools included."""
        return _TASKS + _TASKS_OF_PROCESSOR * (os.cpu_count() or 1) + _TASKS_OF_PROCESS * self.processes


@dataclass(frozen=True, slots=True)
class Share:
    """A file or directory of the host in a sandbox; only a file may be writable, as its size has a limit."""

    path: Path
    destination: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """One program to run in a sandbox of its own.

    Args:
        directory: for what the sandbox itself needs; removed by the caller.
        root: the directory that is its root file system, read only.
        command: what to run.
        environment: its variables.
        shares: what it sees of the host besides.
        store: where in it an empty file system is, as large as the limit of the disk says.
        network: where it is connected; None leaves it without any network.
        limits: what it may use.
    """

    directory: Path
    root: Path
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    shares: tuple[Share, ...]
    store: str
    network: BuildNetwork | None
    limits: Limits


class Sandbox(Protocol):
    """Runs programs that nobody trusts."""

    async def run(self, plan: SandboxPlan, on_line: OnLine) -> None:
        """Run one to its end; whatever happens, nothing of it goes on afterwards, also when this process is killed.

        Args:
            plan: what to run.
            on_line: takes each line that it prints.

        Raises:
            BuildError: it has passed a limit.
            HostError: the sandbox failed.
        """
        ...
