"""Processes watched by a descriptor (pidfd_open(2)) and ended with their session, which they lead.

Children of ours are here, those of an earlier server in adoption.py. asyncio's own children are not used: the event
loop is libuv's, which forks, and copying the page tables of a server of 150 MiB took 13 ms for each child, in which
nothing else happened. `subprocess` lets the child borrow them until it executes its program (vfork(2)): 0.7 ms.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_LINE_LIMIT = 1 << 20


def ends_within(handle: int, timeout_s: float) -> bool:
    """Say whether the process of a pidfd has ended, or does so within some seconds; blocks until then."""
    poll = select.poll()  # select(2) takes no descriptor from 1024 on
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


class WatchedProcess(abc.ABC):
    """A process whose end can be waited for.

    Args:
        pid: its process id, which is its session's id.
        handle: its pidfd; closed with this object.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle

    @property
    @abc.abstractmethod
    def returncode(self) -> int | None:
        """None while it runs, then its exit code; negative: the number of the signal that ended it."""

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        if not self._has_ended():
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            handle = os.dup(self._handle)  # each waiter watches a descriptor of its own
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        code = self.returncode
        assert code is not None
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and nothing that it has started."""
        self._send(signal.SIGKILL)

    @abc.abstractmethod
    async def kill_group(self) -> None:
        """Kill it with everything in its session and wait until it has ended; repeats are harmless."""

    def _has_ended(self) -> bool:
        return ends_within(self._handle, 0)

    def _kill_session(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def __del__(self) -> None:
        """Let go of it."""
        os.close(self._handle)


class Child(WatchedProcess):
    """A child of this process. It is reaped by `kill_group` alone, so until then its id means nothing else.

    Attributes:
        stdout: what it prints, where that was piped.
        stderr: its errors, where they were piped.
    """

    stdout: asyncio.StreamReader | None = None
    stderr: asyncio.StreamReader | None = None

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        super().__init__(popen.pid, os.pidfd_open(popen.pid))
        self._popen = popen
        self._pipes: list[asyncio.BaseTransport] = []

    @classmethod
    async def start(
        cls, line: Sequence[str], environment: Mapping[str, str] | None, stdout: int | IO[bytes],
        stderr: int | IO[bytes], directory: Path | None, pass_fds: Sequence[int],
    ) -> Child:  # fmt: skip
        """Start a child in a session of its own, with no standard input; the arguments are those of `process.start`.

        Raises:
            OSError: its program is missing or cannot be executed.
        """
        popen = subprocess.Popen(  # noqa: ASYNC220 - it returns when the program has begun
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        child = cls(popen)
        try:
            child.stdout = await child._read(popen.stdout)
            child.stderr = await child._read(popen.stderr)
        except BaseException:
            await child.kill_group()
            raise
        return child

    async def _read(self, pipe: IO[bytes] | None) -> asyncio.StreamReader | None:
        if pipe is None:
            return None
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(_LINE_LIMIT)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._pipes.append(transport)
        return reader

    @property
    def returncode(self) -> int | None:
        """None while it runs, then its exit code; negative: the number of the signal that ended it."""
        if self._popen.returncode is None:
            ended = os.waitid(os.P_PIDFD, self._handle, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self._popen.returncode

    async def kill_group(self) -> None:
        """Kill it with everything in its session, and reap it; repeats are harmless."""
        if self._popen.returncode is None:
            self._kill_session()
            await self.wait()
            self._popen.wait()
        for pipe in self._pipes:
            pipe.close()
