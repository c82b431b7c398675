"""What keeps a gVisor sandbox (agent/keeper.c): the program, with a script in runsc's and the sandbox's place."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emberbox.guest.protocol import Frame, FrameType, encode
from emberbox.host import native
from emberbox.time_limits import limit_s

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the namespaces of a keeper")

PATIENCE_S = limit_s(20)
ODD_SLEEP = f"time.sleep({PATIENCE_S + 7.25})"
MEMORY_KB = 131_072
PAYLOAD_MAX = 65_536
LOST = encode(Frame(FrameType.LOST, 0, b""))
ECHO = """
import os
if os.fork():
    os._exit(0)
while data := os.read(0, 65536):
    os.write(1, data)
"""
"""In the sandbox's place: it sends back what it is sent, as soon as the maker has ended."""

KEEP = """
import os
heard, read = open(os.path.join(os.environ["OUT"], "heard"), "ab", buffering=0), os.read
os.read = lambda fd, size: (data := read(fd, size), heard.write(data))[0]
"""
"""Before ECHO: it keeps what it is sent."""

SAY_SURROUNDINGS = """
import os
from pathlib import Path
memory, processors = Path("/proc/meminfo").read_text(), len(os.sched_getaffinity(0))
Path(os.environ["OUT"], "seen").write_text(f"{memory}{processors}")
"""
SAY_OPEN_FILES = """
import os
from pathlib import Path
named, files = os.environ.get("EMBERBOX_GROUPS"), [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
Path(os.environ["OUT"], "seen").write_text(f"{named} {files}")
"""


@dataclass
class Kept:
    """A keeper that runs.

    Args:
        process: it.
        path: where it listens.
        log: what it says.
    """

    process: subprocess.Popen[bytes]
    path: Path
    log: Path

    def connect(self) -> socket.socket:
        """Return a new connection of a host's."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.path))
        return connection

    def wait_said(self) -> str:
        """Wait until it has ended; return its last line."""
        self.process.wait(PATIENCE_S)
        return (self.log.read_text().splitlines() or [""])[-1]


Start = Callable[..., Kept]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a keeper with a script in runsc's place; ends it."""
    started: list[Kept] = []

    def run(script: str, *, processors: int = 0, groups: tuple[int, ...] = (), waits: bool = True) -> Kept:
        path, log = tmp_path / f"{len(started)}.sock", tmp_path / f"{len(started)}.log"
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            words, console = (opened.enter_context(each.open("wb")) for each in (log, tmp_path / "console"))
            listener.bind(str(path))
            listener.listen()
            fds = (listener.fileno(), console.fileno())
            shape = (str(MEMORY_KB), str(processors))
            process = subprocess.Popen(
                [native.keeper_path(), *map(str, fds), *shape, sys.executable, "-c", script],
                stdout=subprocess.PIPE, stderr=words, pass_fds=(*fds, *groups), start_new_session=True,
                env={**os.environ, "EMBERBOX_GROUPS": ",".join(map(str, groups)), "OUT": str(tmp_path)},
            )  # fmt: skip
        started.append(Kept(process, path, log))
        assert process.stdout is not None
        if waits:
            assert process.stdout.readline() == b"ready\n"
        return started[-1]

    yield run
    for kept in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(kept.process.pid, signal.SIGKILL)
        kept.process.wait()
        assert kept.process.stdout is not None
        kept.process.stdout.close()


def frame(payload: bytes, stream: int = 1) -> bytes:
    return encode(Frame(FrameType.DATA, stream, payload))


def receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received


def receive_after_loss(connection: socket.socket, length: int) -> bytes:
    """Return what comes back, without the echo of what the agent was told of the host before; that may be lost."""
    received = receive(connection, length)
    return received[len(LOST) :] + receive(connection, len(LOST)) if received.startswith(LOST) else received


class TestChannel:
    """Frames are carried both ways, whole."""

    def test_what_is_sent_comes_back(self, start: Start) -> None:
        with start(ECHO).connect() as host:
            for payload in (b"", b"short", os.urandom(PAYLOAD_MAX)):
                host.sendall(frame(payload))
                assert receive(host, len(frame(payload))) == frame(payload)

    def test_what_another_host_says_comes_after(self, start: Start) -> None:
        kept = start(ECHO)
        with kept.connect() as first:
            first.sendall(frame(b"first"))
            receive(first, len(frame(b"first")))
        with kept.connect() as second:
            second.sendall(frame(b"second"))
            assert receive_after_loss(second, len(frame(b"second"))) == frame(b"second")

    def test_the_agent_is_told_that_its_host_has_gone(self, start: Start, tmp_path: Path) -> None:
        kept = start(KEEP + ECHO)
        with kept.connect() as host:
            host.sendall(frame(b"said"))
            receive(host, len(frame(b"said")))
        deadline = time.monotonic() + PATIENCE_S
        while LOST not in (heard := (tmp_path / "heard").read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert heard == frame(b"said") + LOST

    def test_whoever_connects_last_is_the_host(self, start: Start) -> None:
        kept = start(ECHO)
        with kept.connect() as first:
            first.sendall(frame(b"one"))
            receive(first, len(frame(b"one")))
            with kept.connect() as second:
                assert first.recv(1) == b""
                second.sendall(frame(b"two"))
                assert receive_after_loss(second, len(frame(b"two"))) == frame(b"two")

    def test_half_a_frame_of_a_host_that_went_meets_no_agent(self, start: Start) -> None:
        kept = start(ECHO)
        with kept.connect() as first:
            first.sendall(frame(b"x" * 1000)[:500])
            time.sleep(0.1)
        with kept.connect() as second:
            second.sendall(frame(b"whole"))
            assert receive_after_loss(second, len(frame(b"whole"))) == frame(b"whole")

    def test_a_host_that_keeps_no_protocol_is_cut_off(self, start: Start) -> None:
        kept = start(ECHO)
        with kept.connect() as first:
            first.sendall(struct.pack("<IB3xI", 1 << 30, FrameType.DATA, 1) + b"x")
            with contextlib.suppress(ConnectionResetError):  # the byte that was not read any more
                assert first.recv(1) == b""
        with kept.connect() as second:
            second.sendall(frame(b"whole"))
            assert receive_after_loss(second, len(frame(b"whole"))) == frame(b"whole")


class TestProcesses:
    """It ends with its sandbox, and its sandbox with it."""

    def test_what_makes_no_sandbox_is_not_ready(self, start: Start) -> None:
        kept = start("raise SystemExit(3)", waits=False)
        assert kept.process.wait(PATIENCE_S) == 1
        assert kept.process.stdout.read() == b""

    def test_the_end_of_a_sandbox_is_told(self, start: Start) -> None:
        kept = start("import os, time\nif os.fork(): os._exit(0)\ntime.sleep(0.2)")
        assert kept.wait_said() == "the sandbox has ended"
        assert kept.process.returncode == 1

    def test_what_killed_a_sandbox_is_told(self, start: Start) -> None:
        kept = start("import os, time\nif os.fork(): os._exit(0)\ntime.sleep(0.2)\nos.kill(os.getpid(), 9)")
        assert kept.wait_said() == "the sandbox was killed by signal 9"

    def test_all_in_the_namespace_end_with_it(self, start: Start) -> None:
        kept = start(f"import os, time\nif os.fork(): os._exit(0)\nos.setsid()\n{ODD_SLEEP}")
        assert len(_sleepers()) == 1
        os.kill(kept.process.pid, signal.SIGKILL)
        kept.process.wait(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while _sleepers() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _sleepers() == []


class TestSurroundings:
    """What the maker of the sandbox finds."""

    def test_memory_and_processors_are_those_of_the_guest(self, start: Start, tmp_path: Path) -> None:
        start(SAY_SURROUNDINGS + ECHO, processors=1)
        assert (tmp_path / "seen").read_text() == f"MemTotal: {MEMORY_KB} kB\n1"

    def test_it_is_in_its_groups_before_anything_else_and_nobody_has_them_open(
        self, start: Start, tmp_path: Path
    ) -> None:
        group = tmp_path / "cgroup.procs"
        group.touch()
        entered = os.open(group, os.O_WRONLY)
        try:
            start(SAY_OPEN_FILES + ECHO, groups=(entered,))
        finally:
            os.close(entered)
        assert group.read_text() == "0"
        seen = (tmp_path / "seen").read_text()
        assert seen.startswith("None [")
        assert "cgroup.procs" not in seen

    def test_a_group_that_cannot_be_entered_ends_it(self, start: Start, tmp_path: Path) -> None:
        (tmp_path / "gone").touch()
        closed = os.open(tmp_path / "gone", os.O_RDONLY)
        try:
            kept = start(ECHO, groups=(closed,), waits=False)
        finally:
            os.close(closed)
        assert "enter its cgroup" in kept.wait_said()


def _sleepers() -> list[str]:
    """Return the processes that the stand-in with the odd number of seconds has."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            if command.startswith(os.fsencode(sys.executable)) and ODD_SLEEP.encode() in command:
                found.append(entry.name)
    return found
