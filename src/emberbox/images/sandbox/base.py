"""What a build needs of a sandbox; gVisor is one, a microVM could be another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emberbox.images.containers import BuildNetwork
from emberbox.process import OnLine

PROCESSES_MAX = 1000
"""Processes of all steps of a build together; a gVisor sandbox dies of some 1,300."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use.

    Args:
        memory_bytes: of memory, above which it is ended.
        disk_bytes: of its store, and of each file that it may write.
        processes: at once, above which it is ended.
        timeout_s: seconds until it is ended.
    """

    memory_bytes: int
    disk_bytes: int
    processes: int
    timeout_s: float


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
