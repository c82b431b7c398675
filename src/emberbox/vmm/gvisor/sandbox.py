"""The processes of one sandbox: a keeper (agent/keeper.c), and what runsc has started in its process namespace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.host import native, usage
from emberbox.host.cgroups import Group
from emberbox.host.runsc.bundle import Bundle, ErofsRoot, write_bundle
from emberbox.host.runsc.command import control_socket, create_line
from emberbox.host.runsc.control import Control
from emberbox.host.sockets import listen
from emberbox.host.user_namespace import enter_line
from emberbox.model.errors import VmmError
from emberbox.process.watched import Child, WatchedProcess
from emberbox.time_limits import limit_s
from emberbox.vmm.base import MachineShape, VmFiles
from emberbox.vmm.gvisor.limits import PROCESSES_MAX, files_max

CHANNEL: Final = "agent.sock"
LOG: Final = "vmm.log"
CONSOLE: Final = "console"
_STATE: Final = Path("/run/emberbox")
_BUNDLE: Final = "bundle"
_KIB_PER_MIB: Final = 1024
CREATE_TIMEOUT_S = limit_s(60.0)
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


async def create(
    runsc: Path, files: VmFiles, shape: MachineShape, group: Group, nowhere: int | None = None, *, boots: bool
) -> Child:  # fmt: skip
    """Make a sandbox in which nothing runs yet; return its keeper, whose end is the sandbox's.

    Args:
        runsc: the program.
        group: what it and all that it starts are held in; the caller's to remove.
        files: where the guest's files are.
        shape: the machine that it sees.
        nowhere: the other end of its device, where that leads nowhere; the caller's to close.
        boots: it is no restored one, which has its number of processors already.

    Raises:
        VmmError: runsc could not make it; HostError: a program is missing.
        OSError: the disk is full.
    """
    directory = files.directory
    environment = {**_ENVIRONMENT, "EMBERBOX_DISK_BYTES": str(files_max(files, shape))}
    write_bundle(directory / _BUNDLE, Bundle((native.AGENT_IN_IMAGE, "sandbox"), ErofsRoot(files.root), environment))
    log_path = directory / LOG
    with contextlib.ExitStack() as opened:
        log = opened.enter_context(log_path.open("ab"))
        said_before = log.tell()
        # A file each time: a restore finds another kind of standard error than was saved, and ends the sandbox.
        console = opened.enter_context((directory / CONSOLE).open("wb"))
        listener = listen(opened, directory / CHANNEL)
        command = create_line(runsc, _STATE, directory / _BUNDLE, log.fileno())
        groups = group.open(opened)
        ends = () if nowhere is None else (nowhere,)
        entered = {"EMBERBOX_GROUPS": ",".join(map(str, groups)), "EMBERBOX_NOWHERE": "".join(map(str, ends))}
        sees = (str(shape.mem_size_mib * _KIB_PER_MIB), str(shape.vcpu_count if boots else 0))
        keeper = await process.start(
            [*enter_line(PROCESSES_MAX), native.keeper_path(), str(listener), str(console.fileno()), *sees, *command],
            environment={**_ENVIRONMENT, **entered},
            stdout=process.PIPE,
            stderr=log,
            pass_fds=(listener, console.fileno(), log.fileno(), *groups, *ends),
        )
    try:
        await _wait_ready(keeper, log_path, said_before)
    except BaseException:
        await keeper.kill_group()
        raise
    return keeper


async def _wait_ready(keeper: Child, log_path: Path, said_before: int) -> None:
    assert keeper.stdout is not None
    try:
        async with asyncio.timeout(CREATE_TIMEOUT_S):
            said = await keeper.stdout.readline()
    except TimeoutError:
        raise VmmError(f"gVisor made no sandbox within {CREATE_TIMEOUT_S:g} s") from None
    if not said:
        raise VmmError(f"gVisor did not start: {last_error(log_path, said_before)}")
    keeper.stdout.close()


def control_of(keeper: WatchedProcess) -> Control:
    """Return what speaks to a keeper's sandbox, whose state only the keeper's own mount namespace has."""
    return Control(Path(f"/proc/{keeper.pid}/root{control_socket(_STATE)}"))


def log_size(directory: Path) -> int:
    """Return the size of a guest's log in bytes; one that is not there has none."""
    with contextlib.suppress(OSError):
        return (directory / LOG).stat().st_size
    return 0


def last_error(log_path: Path, said_before: int) -> str:
    """Return the last line that was printed after so many bytes of a log, or that there is none."""
    try:
        lines = log_path.read_bytes()[said_before:].decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][-300:] if lines else "it printed nothing"


# --- what it costs


def _children(pid: int) -> Iterator[int]:
    """Return the processes that a process has started, and all that they have."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _children(int(child))


def resident_bytes(pid: int) -> int:
    """Return the memory of a keeper and all in its namespace, shared memory counted in part.

    Raises:
        OSError: it has ended.
    """
    total = usage.resident_bytes(pid)
    for child in _children(pid):
        with contextlib.suppress(OSError, KeyError):
            total += usage.resident_bytes(child)
    return total


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a keeper and all in its namespace, those that have ended there too.

    Raises:
        OSError: it has ended.
    """
    total = usage.cpu_seconds(pid)
    for child in _children(pid):
        with contextlib.suppress(OSError):
            total += usage.cpu_seconds(child, with_ended=True)
    return total
