"""Processes watched by a descriptor (pidfd_open(2)) and ended with their session, which they lead.

Children of ours are here, those of an earlier server in process/adoption.py. asyncio's own children are not used: the
event loop is libuv's, which forks, and copying the page tables of a server of 150 MiB took 13 ms for each child, in
which nothing else happened. `subprocess` lets the child borrow them until it executes its program (vfork(2)): 0.7 ms.
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
_READ_BYTES = 1 << 16


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
            try:
                loop.add_reader(handle, ended.set)
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


class Output:
    """What a child writes to a pipe, read when somebody wants it: until then the child waits.

    The event loop only watches the descriptor. A transport would take it over, and libuv's closes the number while
    the file that Python has of it is still to be closed: by then the number may be a file of another thread's.

    Args:
        pipe: its reading end, unbuffered; this object closes it, once.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        self._buffer = bytearray()
        self._searched = 0
        self._ready = asyncio.Event()

    async def read(self) -> bytes:
        """Return all that is still to come."""
        while await self._fill():
            pass
        return self._take(len(self._buffer))

    async def readline(self) -> bytes:
        """Return a line with its end, or a piece of a long one; b"" when there is no more."""
        while (found := self._buffer.find(b"\n", self._searched)) < 0 and len(self._buffer) < _LINE_LIMIT:
            self._searched = len(self._buffer)
            if not await self._fill():
                return self._take(len(self._buffer))
        return self._take(_LINE_LIMIT if found < 0 else found + 1)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._searched = 0
        return taken

    async def _fill(self) -> bool:
        """Read some more; False at the end, which a pipe that was closed here has reached."""
        while not self._pipe.closed:
            try:
                data = os.read(self._pipe.fileno(), _READ_BYTES)
            except BlockingIOError:
                await self._wait()
                continue
            self._buffer += data
            return bool(data)
        return False

    async def _wait(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        self._ready = ready
        loop.add_reader(self._pipe.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            if not self._pipe.closed:
                loop.remove_reader(self._pipe.fileno())

    def close(self) -> None:
        """Read no more; repeats are harmless."""
        if not self._pipe.closed:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._ready.set()


class Child(WatchedProcess):
    """A child of this process. It is reaped by `kill_group` alone, so until then its id means nothing else.

    Attributes:
        stdout: what it prints, where that was piped.
        stderr: its errors, where they were piped.
    """

    def __init__(self, popen: subprocess.Popen[bytes], handle: int) -> None:
        super().__init__(popen.pid, handle)
        self._popen = popen
        self.stdout = None if popen.stdout is None else Output(popen.stdout)
        self.stderr = None if popen.stderr is None else Output(popen.stderr)

    @classmethod
    def start(
        cls, line: Sequence[str], environment: Mapping[str, str] | None, stdout: int | IO[bytes],
        stderr: int | IO[bytes], directory: Path | None, pass_fds: Sequence[int],
    ) -> Child:  # fmt: skip
        """Start a child in a session of its own, with no standard input; the arguments are those of `process.start`.

        Raises:
            OSError: its program is missing or cannot be executed, or there is no descriptor left to watch it by.
        """
        popen = subprocess.Popen(
            line,
            bufsize=0,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        try:
            handle = os.pidfd_open(popen.pid)
        except OSError:  # out of descriptors: nobody could ever end it
            with popen:  # closes its pipes and reaps it
                os.killpg(popen.pid, signal.SIGKILL)
            raise
        return cls(popen, handle)

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
        try:
            if self._popen.returncode is None:
                self._kill_session()
                await self.wait()
                self._popen.wait()
        finally:
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()
