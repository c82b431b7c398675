"""Keeping a long-lived helper process running: Envoy, the embedded S3.

    start ──► wait until it is ready ──► watch ──┬──► it died: log why, start it again (at once, then ever
    later)
                                                 └──► the block was left: stop it

Nothing is left behind: the kernel kills a helper when our process dies, however it dies, and what a previous
instance nevertheless left running is found by its pid file and killed before the helper starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.model.errors import HostError
from emberbox.process import Argument

log = logging.getLogger(__name__)

# setpriv is in util-linux, which every Debian has; the kernel then kills the helper when we die, even by
# SIGKILL. It counts the thread that starts the helper as its parent, so helpers are started from the event
# loop's thread.
_DIE_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")
_READY_POLL_S: Final = 0.02
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0
_STABLE_S: Final = 10.0
_LOG_CHECK_S: Final = 2.0
_TAIL_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class Helper:
    """What to run and how to see that it works.

    Args:
        name: names its log (`<name>.log`, and `<name>.log.1` for what came before) and its pid file.
        arguments: program and arguments.
        directory: where its log and its pid file live; made when it is missing.
        is_ready: says whether it serves; asked again and again after a start. It may not raise.
        environment: its whole environment; by default that of this process. May hold secrets.
        log_bytes: how large each of its two log files may grow, give or take what it writes in two seconds.
    """

    name: str
    arguments: Sequence[Argument]
    directory: Path
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    log_bytes: int = 8 << 20

    @property
    def log_path(self) -> Path:
        """The file that takes its output and its errors."""
        return self.directory / f"{self.name}.log"

    @property
    def pid_path(self) -> Path:
        """The file that says which process it is."""
        return self.directory / f"{self.name}.pid"


@contextlib.asynccontextmanager
async def supervise(helper: Helper, ready_timeout_s: float = 30.0) -> AsyncIterator[Supervisor]:
    """Run a helper for as long as the block lasts, and start it again whenever it dies.

    Args:
        helper: what to run.
        ready_timeout_s: seconds that it may take until `is_ready`, restarts included.

    Raises:
        HostError: it is not installed, or was not ready in time; the message has the end of its log.
    """
    helper.directory.mkdir(parents=True, exist_ok=True)
    await end_previous(helper.pid_path)
    supervisor = Supervisor(helper)
    try:
        await supervisor.start()
        await supervisor.wait_ready(ready_timeout_s)
        yield supervisor
    finally:
        await supervisor.stop()


class Supervisor:
    """The owner of one running helper; made by `supervise`.

    Attributes:
        restarts: how often the helper has been started again.
    """

    def __init__(self, helper: Helper) -> None:
        self.restarts = 0
        self._helper = helper
        self._child: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """The pid of the helper that runs now, or that died last."""
        assert self._child is not None
        return self._child.pid

    async def start(self) -> None:
        """Start the helper and watch it. Called once."""
        await self._spawn()
        self._tasks = [asyncio.create_task(self._keep_running()), asyncio.create_task(self._bound_log())]

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the helper serves.

        Raises:
            HostError: it does not serve within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._is_alive() and await self._helper.is_ready()):  # noqa: ASYNC110  # no event
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError:
            raise HostError(
                f"{self._helper.name} was not ready within {timeout_s:g} s; "
                f"the end of {self._helper.log_path}: {_tail(self._helper.log_path)}"
            ) from None

    async def stop(self) -> None:
        """Stop watching, then stop the helper. Repeats are harmless."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._child is not None:
            await process.stop(self._child)
        self._helper.pid_path.unlink(missing_ok=True)

    def _is_alive(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def _spawn(self) -> None:
        _rotate(self._helper)
        with self._helper.log_path.open("ab") as output:
            self._child = await process.start(
                [*_DIE_WITH_US, *self._helper.arguments],
                environment=self._helper.environment,
                stdout=output,
                stderr=output,
            )
        _write_pid(self._helper.pid_path, self._child.pid)

    async def _keep_running(self) -> None:
        delay_s = 0.0  # the first restart is immediate: whoever died once is most often back at once
        while True:
            assert self._child is not None
            started = time.monotonic()
            code = await self._child.wait()
            await process.kill_group(self._child)  # what it started must not outlive it
            if time.monotonic() - started > _STABLE_S:
                delay_s = 0.0
            log.warning(
                "%s %s; it starts again in %g s; its log is %s",
                self._helper.name,
                process.describe_exit(code),
                delay_s,
                self._helper.log_path,
            )
            delay_s = await self._restart(delay_s)

    async def _restart(self, delay_s: float) -> float:
        """Start again after `delay_s` seconds; return how long to wait before the next restart."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(max(_FIRST_DELAY_S, delay_s * 2), _LONGEST_DELAY_S)
            self.restarts += 1
            try:
                await self._spawn()
            except (HostError, OSError) as error:  # no memory, no processes, a full disk: it may pass
                log.warning("%s cannot be started again yet: %s", self._helper.name, error)
            else:
                return delay_s

    async def _bound_log(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_S)
            try:
                _rotate(self._helper)
            except OSError as error:
                log.warning("%s cannot be shortened: %s", self._helper.log_path, error)


def find_program(name: str) -> str:
    """Find a tool that came with a Python package, else one on PATH.

    Returns:
        its path; just `name` when it is nowhere, so that starting it says what is missing.
    """
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which(name) or name


async def end_previous(pid_path: Path) -> None:
    """Kill what a pid file names, if that very process still runs, and wait until it is gone.

    Raises:
        HostError: it cannot be killed.
    """
    try:
        noted = json.loads(pid_path.read_text())
        pid, started = int(noted["pid"]), int(noted["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # no file, or one that was being written when the machine stopped: nothing to go by
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _start_time(pid) == started:
                log.warning("process %d of %s still runs and is killed", pid, pid_path)
                await _kill_and_wait(pid, handle)
        finally:
            os.close(handle)
    pid_path.unlink(missing_ok=True)


async def _kill_and_wait(pid: int, handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.killpg(pid, signal.SIGKILL)  # helpers lead their own session, see process.start
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise HostError(f"process {pid} is in the way and belongs to another user") from error
    gone, _, _ = await asyncio.to_thread(select.select, [handle], [], [], 5.0)
    if not gone:
        raise HostError(f"process {pid} is in the way and does not die; kill it by hand")


def _write_pid(path: Path, pid: int) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))
    temporary.replace(path)


def _start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with it a pid is never taken for another's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22 of proc(5); field 2 may hold blanks


def _rotate(helper: Helper) -> None:
    """Move a log that grew too long aside. The helper goes on writing at the end, which is then the start."""
    path = helper.log_path
    if path.exists() and path.stat().st_size > helper.log_bytes:
        with path.open("rb") as log_file:
            log_file.seek(-helper.log_bytes, os.SEEK_END)
            path.with_name(path.name + ".1").write_bytes(log_file.read(helper.log_bytes))
        os.truncate(path, 0)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError:
        return ""
