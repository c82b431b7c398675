"""Commands in a microVM: `emberbox exec` and `emberbox shell` as users run them, and the HTTP API below."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from emberbox.time_limits import limit_s
from support import shell
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
TIMEOUT_S = limit_s(120)
MIB = 1 << 20


class Command:
    """Runs `emberbox` commands of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def run(self, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        """Run one to its end."""
        command = self._server.command(*arguments)
        return subprocess.run(
            command, env=self._server.environment, input=input, capture_output=True, timeout=TIMEOUT_S
        )

    @contextmanager
    def start(self, *arguments: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Start one; it is ended with the block."""
        files = (subprocess.PIPE, subprocess.PIPE) if terminal is None else (terminal, terminal)
        command = self._server.command(*arguments)
        with subprocess.Popen(
            command, env=self._server.environment, stdin=files[0], stdout=files[1], start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def emberbox(server: Server) -> Command:
    return Command(server)


@pytest.mark.both_engines
def test_outputs_are_separate_and_the_exit_code_is_passed_on(emberbox: Command, shell_microvm: Microvm) -> None:
    done = emberbox.run("exec", shell_microvm.id, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_command_is_a_process_of_the_container(emberbox: Command, shell_microvm: Microvm) -> None:
    """It has the application's environment, directory, namespaces, capabilities and limits, and no file more."""
    script = """
        echo $AWS_LAMBDA_MICROVM_IMAGE_NAME; pwd; id -u
        namespace() { readlink /proc/$1/ns/$2 2>/dev/null; }
        for n in mnt pid ipc cgroup uts net; do [ "$(namespace self $n)" = "$(namespace 1 $n)" ] || echo $n; done
        cut -d: -f3 /proc/self/cgroup | sort -u
        for i in CapEff CapBnd; do grep $i /proc/self/status; done; grep SigIgn /proc/self/status || echo untold 0
        ls /proc/self/fd | wc -l
    """
    told = shell.run(shell_microvm, script).splitlines()
    assert len(told) == 8, told
    name, directory, uid, cgroup, effective, bounding, ignored, files = told
    assert name.startswith("probe-")
    assert (directory, uid, cgroup, files) == ("/", "0", "/", "4")
    application = shell.run(shell_microvm, "grep Cap /proc/1/status").splitlines()
    assert {effective, bounding} <= set(application)
    assert int(ignored.split()[1], 16) == 0


def test_user_directory_and_variables_can_be_chosen(emberbox: Command, shell_microvm: Microvm) -> None:
    options = ["-u", "www-data", "-w", "/tmp", "-e", "A=b c", "-e", "PATH=/usr/bin:/bin"]
    script = 'id -un; id -gn; pwd; echo "$A,$HOME,$PATH"; grep CapEff /proc/self/status'
    done = emberbox.run("exec", *options, shell_microvm.id, "--", "sh", "-c", script)
    user, group, directory, variables, capabilities = done.stdout.decode().splitlines()
    assert (user, group, directory) == ("www-data", "www-data", "/tmp")
    assert variables == "b c,/var/www,/usr/bin:/bin"
    assert int(capabilities.split()[1], 16) == 0
    numbers = emberbox.run("exec", "-u", "1234:5", shell_microvm.id, "--", "sh", "-c", "id -u; id -g")
    assert numbers.stdout == b"1234\n5\n"


@pytest.mark.both_engines
def test_any_user_opens_terminals(emberbox: Command, shell_microvm: Microvm) -> None:
    """As an editor, tmux or `script` does, whoever the image's user is."""
    line = ["script", "-qec", "stat -c '%U %A' $(tty)", "/dev/null"]
    done = emberbox.run("exec", "-u", "www-data", "-w", "/tmp", shell_microvm.id, "--", *line)
    assert (done.returncode, done.stderr) == (0, b"")
    owner, mode = done.stdout.decode().split()
    assert (owner, mode[:4]) == ("www-data", "crw-")


@pytest.mark.parametrize(
    ("options", "program", "code", "text"),
    [
        ([], "no-such-program", 127, b"no-such-program: No such file or directory"),
        ([], "/etc", 126, b"/etc: Permission denied"),
        (["-w", "/missing"], "true", 126, b"/missing: No such file or directory"),
        (["-u", "nobody-at-all"], "true", 126, b"no such user"),
    ],
)
def test_what_cannot_be_executed_says_why(
    emberbox: Command, shell_microvm: Microvm, options: list[str], program: str, code: int, text: bytes
) -> None:
    done = emberbox.run("exec", *options, shell_microvm.id, "--", program)
    assert (done.returncode, done.stdout) == (code, b"")
    assert text in done.stderr


def test_input_reaches_the_command_whole(emberbox: Command, shell_microvm: Microvm) -> None:
    data = os.urandom(4 * MIB)
    done = emberbox.run("exec", "-i", shell_microvm.id, "--", "sha256sum", input=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert emberbox.run("exec", shell_microvm.id, "--", "cat", input=b"not passed").stdout == b""


def test_a_slow_reader_holds_the_command_and_loses_nothing(emberbox: Command, shell_microvm: Microvm) -> None:
    """Nothing between piles the output up: the command stands still until it is read."""
    script = "rm -f /data/done; head -c 16M /dev/zero | tr '\\0' x; echo > /data/done"
    with emberbox.start("exec", shell_microvm.id, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        assert shell.run(shell_microvm, "ls /data/done 2>/dev/null || echo waits") == "waits\n"
        rest = process.stdout.read()
        assert process.wait(TIMEOUT_S) == 0
    assert first + rest == b"x" * (16 * MIB)
    assert shell.run(shell_microvm, "ls /data/done") == "/data/done\n"


def test_signals_are_passed_on(emberbox: Command, shell_microvm: Microvm) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    with emberbox.start("exec", shell_microvm.id, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got\n"
        assert process.wait(TIMEOUT_S) == 9


def test_a_client_that_dies_hangs_the_command_up(emberbox: Command, shell_microvm: Microvm) -> None:
    script = "rm -f /data/hup; trap 'echo > /data/hup; exit' HUP; echo ready; while :; do sleep 0.1; done"
    with emberbox.start("exec", shell_microvm.id, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        wait_for("the command got SIGHUP", lambda: shell.run(shell_microvm, "ls /data").count("hup"), 30)


def test_a_background_child_does_not_hold_the_session(emberbox: Command, shell_microvm: Microvm) -> None:
    """As with a terminal, the session ends with the command; a child that has its output goes on."""
    done = emberbox.run("exec", shell_microvm.id, "--", "sh", "-c", "sleep 987 & echo started")
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert "sleep" in shell.run(shell_microvm, "cat /proc/[0-9]*/comm; pkill -x sleep || kill $(pidof sleep)||true")


class Terminal:
    """A terminal of the test's own, for a command that wants one."""

    def __init__(self, rows: int, columns: int) -> None:
        self.outside, self.inside = pty.openpty()
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.inside)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.outside, text.encode())

    def read_until(self, text: str) -> str:
        while text.encode() not in self.seen:
            assert select.select([self.outside], [], [], TIMEOUT_S)[0], f"no {text!r} after {self.seen!r}"
            self.seen += os.read(self.outside, 65536)
        shown, _, self.seen = self.seen.partition(text.encode())
        return shown.decode(errors="replace") + text

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.inside) == self.before


def test_the_shell_command_is_a_terminal_and_leaves_ours_as_it_was(emberbox: Command, shell_microvm: Microvm) -> None:
    terminal = Terminal(31, 117)
    with emberbox.start("shell", shell_microvm.id, terminal=terminal.inside) as process:
        terminal.read_until("# ")
        terminal.type("stty size; tty\n")
        terminal.read_until("31 117")
        terminal.read_until("/dev/pts/")
        fcntl.ioctl(terminal.inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
        process.send_signal(signal.SIGWINCH)
        terminal.type("while [ \"$(stty size)\" != '40 90' ]; do sleep 0.1; done; echo re''sized\n")
        terminal.read_until("resized")
        terminal.read_until("# ")  # an end of file that comes before the shell reads again is lost
        terminal.type("\x04")
        assert process.wait(TIMEOUT_S) == 0
    assert terminal.is_restored()


def test_a_command_with_a_terminal_gets_the_keys_and_gives_its_code(emberbox: Command, shell_microvm: Microvm) -> None:
    terminal = Terminal(24, 80)
    arguments = ["exec", "-it", shell_microvm.id, "--", "sh", "-c", "tty; cat; echo never"]
    with emberbox.start(*arguments, terminal=terminal.inside) as process:
        terminal.read_until("/dev/pts/")
        terminal.read_until("\r\n")
        terminal.type("typed\n")
        for _ in ("echo", "cat"):
            terminal.read_until("typed\r\n")
        terminal.type("\x03")
        assert process.wait(TIMEOUT_S) == 130
    assert terminal.is_restored()


def test_commands_over_http_answer_line_by_line(shell_microvm: Microvm) -> None:
    answer = shell.request(
        shell_microvm, "POST", "/exec", json={"command": ["sh", "-c", "cat; echo err >&2; exit 3"], "input": "λ"}
    )
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines.pop() == {"type": "exit", "exitCode": 3}
    assert {line["type"]: base64.b64decode(line["data"]).decode() for line in lines} == {
        "stdout": "λ",
        "stderr": "err\n",
    }
    assert shell.request(shell_microvm, "GET", "/").status_code == 502
    assert "/exec" in shell.request(shell_microvm, "GET", "/openapi.json").json()["paths"]


def test_a_microvm_without_the_connector_says_what_to_do(emberbox: Command, probe: Microvm) -> None:
    done = emberbox.run("exec", probe.id, "--", "true")
    assert done.returncode == 1
    assert b"SHELL_INGRESS" in done.stderr
    assert b"run another one with" in done.stderr


def test_a_suspend_cuts_the_client_and_keeps_the_processes(launch: Launch, probe_image: Image, server: Server) -> None:
    """The client is told; after the resume, which a new session brings, what ran in the terminal still runs."""
    microvm = launch(
        probe_image,
        ingressNetworkConnectors=shell.ingress(server.endpoints["region"], "SHELL_INGRESS"),
        idlePolicy={"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": True},
    )
    with shell.open_shell(microvm) as session:
        session.type("i=0; while :; do i=$((i+1)); echo $i | tee /data/count; sleep 0.1; done\n")
        wait_for("the loop runs", lambda: shell.run(microvm, "ls /data").count("count"), 60)
        microvm.suspend()
        code, reason = session.read_closing()
    assert code == 1001
    assert "suspended" in reason
    before = int(shell.run(microvm, "cat /data/count") or 0)
    assert microvm.state() == "RUNNING"
    wait_for("the loop goes on", lambda: int(shell.run(microvm, "cat /data/count") or 0) > before, 30)
