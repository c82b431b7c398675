"""The one door to child processes.

Every tool that Emberbox runs, and every long-lived helper, is started here: with an explicit environment,
no standard input, and a command line in the log that can be pasted into a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from emberbox.model.errors import HostError
from emberbox.process.adoption import ENDED_UNSEEN, descendants
from emberbox.process.watched import Child, WatchedProcess
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

Argument = str | os.PathLike[str]
PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

_TAIL_BYTES = 4096
_LINES_AT_ONCE = 200

OnLine = Callable[[str], Awaitable[None] | None]
"""Called with a line of a tool's; the tool waits for what it returns once a pipe is full."""
_END_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Completed:
    """How a finished child ended: its exit code (negative: the signal's number) and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class CommandError(HostError):
    """A tool could not be started, failed, or ran too long.

    Attributes:
        returncode: its exit code; 127 when it is not installed; None when it ran out of time.
    """

    def __init__(self, message: str, returncode: int | None) -> None:
        super().__init__(message)
        self.returncode = returncode


def describe_exit(returncode: int) -> str:
    """Say in words how a child ended."""
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-returncode).name}"
    if returncode == ENDED_UNSEEN:
        return "ended (how cannot be known: an earlier server had started it)"
    return f"exited with code {returncode}"


async def start(
    arguments: Sequence[Argument],
    *,
    environment: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] = DEVNULL,
    stderr: int | IO[bytes] = DEVNULL,
    directory: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a child in a session of its own and return it; the caller owns it.

    Args:
        arguments: program and arguments; never a shell string.
        environment: the whole environment of the child; by default that of this process.
        stdout: where its output goes (`PIPE`, `DEVNULL` or an open file).
        stderr: the same for its errors.
        directory: its working directory.
        pass_fds: descriptors that it inherits under the same numbers.

    Raises:
        CommandError: the program is missing or cannot be executed.
    """
    line = [os.fspath(a) for a in arguments]
    log.debug("run: %s", shlex.join(line))
    try:
        return Child.start(line, environment, stdout, stderr, directory, pass_fds)
    except FileNotFoundError as error:
        raise CommandError(f"{line[0]} is not installed; `emberbox doctor` says how to get it", 127) from error
    except OSError as error:
        raise CommandError(f"{line[0]} cannot be started: {error.strerror}", None) from error


_TIED = ("setpriv", "--pdeathsig", "KILL", "--")
_ENCLOSED = (
    *(*_TIED, "unshare", "--mount", "--propagation=slave"),
    *("--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)


async def run(
    arguments: Sequence[Argument],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float | None = 60.0,
    check: bool = True,
    on_line: OnLine | None = None,
    on_start: Callable[[Child], None] | None = None,
    tied: bool = False,
    enclosed: bool = False,
) -> Completed:
    """Run a tool to its end.

    Args:
        arguments: program and arguments; never a shell string.
        environment: the whole environment of the child; by default that of this process.
        directory: its working directory.
        timeout: seconds, on an ordinary machine, until the child and all it started are killed; None waits for ever.
        check: raise when the exit code is not 0.
        on_line: called with each line of output and errors as they come, what it returns is awaited; then `stdout` in
            the result holds both, and `stderr` is empty.
        on_start: called with the child once it runs.
        tied: it gets SIGKILL when this process ends, however that ends (prctl(2), PR_SET_PDEATHSIG).
        enclosed: the same, and whatever it starts ends with it. As root it leads a process namespace: the kernel ends
            the others in it, daemons too, and their mounts go with them.

    Raises:
        CommandError: it is missing, failed (with `check`), or took longer than `timeout`.
    """
    merged = on_line is not None
    before = _ENCLOSED if enclosed and os.geteuid() == 0 else _TIED if tied or enclosed else ()
    errors = STDOUT if merged else PIPE
    line = [*before, *arguments]
    child = await start(line, environment=environment, directory=directory, stdout=PIPE, stderr=errors)
    if on_start is not None:
        on_start(child)
    name = os.fspath(arguments[0])
    limit = None if timeout is None else limit_s(timeout)
    try:
        async with asyncio.timeout(limit):
            if on_line is None:
                out, err = await _read_all(child)
            else:
                out, err = await _stream_lines(child, on_line), b""
                await child.wait()
    except TimeoutError:
        raise CommandError(f"{name} did not finish within {limit:g} s and was stopped", None) from None
    finally:
        started = descendants(child.pid) if enclosed and child.returncode is None else []
        await child.kill_group()
        await _end_all(started)
    assert child.returncode is not None
    done = Completed(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if check:
        _check(name, done)
    return done


def _check(name: str, done: Completed) -> None:
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-_TAIL_BYTES:]
        raise CommandError(f"{name} {describe_exit(done.returncode)}: {tail}", done.returncode)


async def _read_all(child: Child) -> tuple[bytes, bytes]:
    """Read what a child prints until it has ended; return its output and its errors."""
    assert child.stdout is not None
    assert child.stderr is not None
    out, err, _ = await asyncio.gather(child.stdout.read(), child.stderr.read(), child.wait())
    return out, err


async def _stream_lines(child: Child, on_line: OnLine) -> bytes:
    """Feed each line to `on_line`; return the last few kilobytes."""
    assert child.stdout is not None
    tail, count = b"", 0
    while line := await child.stdout.readline():
        tail = (tail + line)[-_TAIL_BYTES:]
        waiting = on_line(line.decode(errors="replace").rstrip("\r\n"))
        if waiting is not None:
            await waiting
        count += 1
        if count % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)  # a pipe full of empty lines is no reason to let everybody else wait
    return tail


async def _end_all(processes: Sequence[WatchedProcess]) -> None:
    for process in processes:
        with contextlib.suppress(PermissionError):
            process.kill()
    with contextlib.suppress(TimeoutError):  # one that is held up in the kernel
        async with asyncio.timeout(_END_TIMEOUT_S):
            await asyncio.gather(*(process.wait() for process in processes))


async def stop(child: WatchedProcess, grace_s: float = 5.0) -> int:
    """Ask a process to end, kill it after `grace_s` seconds, and return its exit code."""
    child.terminate()
    try:
        async with asyncio.timeout(limit_s(grace_s)):
            await child.wait()
    except TimeoutError:
        log.warning("process %d did not end within %g s and is killed", child.pid, grace_s)
    await child.kill_group()
    return await child.wait()
