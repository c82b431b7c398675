"""Keeping a long-lived helper process running: Envoy, the embedded S3.

    adopt or start ──► wait until it is ready ──► watch ──┬──► it died: log why, start it again (at once,
                                                          │    then ever later)
                                                          └──► the block was left: stop it

A helper outlives a server that is killed, and goes on with its clients' connections. The next server finds it by its
pid file and adopts it when it was started in just the same way; otherwise it is ended before a new one starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.model.errors import HostError
from emberbox.process import Argument
from emberbox.process.adoption import AdoptedProcess, end_process, error_logs, find_process, read_note, write_note
from emberbox.process.watched import WatchedProcess
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

_READY_POLL_S: Final = 0.02
_ADOPTED_READY_S: Final = 5.0
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
        files: configuration that it reads when it starts.
        environment: its whole environment; by default that of this process. May hold secrets.
        on_end: called whenever it has died, before it starts again.
        log_bytes: how large each of its two log files may grow, give or take what it writes in two seconds.
    """

    name: str
    arguments: Sequence[Argument]
    directory: Path
    is_ready: Callable[[], Awaitable[bool]]
    files: Sequence[Path] = ()
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    on_end: Callable[[], None] = lambda: None
    log_bytes: int = 8 << 20

    @property
    def log_path(self) -> Path:
        """The file that takes its output and its errors."""
        return self.directory / f"{self.name}.log"

    @property
    def pid_path(self) -> Path:
        """The file that says which process it is."""
        return self.directory / f"{self.name}.pid"

    def fingerprint(self) -> str:
        """Return what is the same for two helpers that may stand in for each other; it tells no secret."""
        told = [os.fspath(argument) for argument in self.arguments]
        told += [f"{name}={value}" for name, value in sorted((self.environment or {}).items())]
        told += [path.read_text() for path in self.files]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()


@contextlib.asynccontextmanager
async def supervise(helper: Helper, ready_timeout_s: float = limit_s(30.0)) -> AsyncIterator[Supervisor]:
    """Run a helper for as long as the block lasts, and start it again whenever it dies.

    Args:
        helper: what to run.
        ready_timeout_s: seconds that it may take until `is_ready`, restarts included.

    Raises:
        HostError: it is not installed, or was not ready in time; the message has the end of its log.
    """
    helper.directory.mkdir(parents=True, exist_ok=True)
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
        self._child: WatchedProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """The pid of the helper that runs now, or that died last."""
        assert self._child is not None
        return self._child.pid

    async def start(self) -> None:
        """Adopt the helper or start it, and watch it. Called once."""
        if not await self._adopt():
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

    async def _adopt(self) -> bool:
        """Take over the helper of an earlier server when it serves and is as ours would be; otherwise end it."""
        found = find_running(self._helper.name, self._helper.directory)
        note = read_note(self._helper.pid_path)
        if found and note and note.more.get("fingerprint") == self._helper.fingerprint():
            self._child = found
            with contextlib.suppress(HostError):
                await self.wait_ready(_ADOPTED_READY_S)
                log.info("%s (pid %d) is taken over", self._helper.name, found.pid)
                return True
        self._child = None
        await asyncio.to_thread(_end_writers, self._helper.log_path)
        return False

    async def _spawn(self) -> None:
        _rotate(self._helper)
        with self._helper.log_path.open("ab") as output:
            self._child = await process.start(
                self._helper.arguments,
                environment=self._helper.environment,
                stdout=output,
                stderr=output,
            )
        write_note(self._helper.pid_path, self._child.pid, fingerprint=self._helper.fingerprint())

    async def _keep_running(self) -> None:
        delay_s = 0.0  # the first restart is immediate: whoever died once is most often back at once
        while True:
            assert self._child is not None
            started = time.monotonic()
            code = await self._child.wait()
            await self._child.kill_group()  # what it started must not outlive it
            self._helper.on_end()
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


def find_running(name: str, directory: Path) -> AdoptedProcess | None:
    """Return the helper of this name that an earlier server left running in a directory."""
    return find_process(directory / f"{name}.pid", directory / f"{name}.log")


def _end_writers(log_path: Path) -> None:
    """End what an earlier server left running with this log, noted or not: it would hold our port."""
    for pid, path in error_logs():
        if path == str(log_path.resolve()):
            log.warning("process %d, which writes to %s, is ended", pid, log_path.name)
            end_process(pid)


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
