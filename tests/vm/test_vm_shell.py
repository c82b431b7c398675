"""The shell of a microVM: the frames of the AWS service, and a real terminal in the application's container."""

from __future__ import annotations

import pytest

from support.guests import Microvm
from support.shell import open_shell

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]


def test_a_shell_is_a_terminal_in_the_container(shell_microvm: Microvm) -> None:
    """It has a session id, a prompt, TERM, a size of zero until the first resize, and the application's files."""
    with open_shell(shell_microvm) as session:
        assert set(session.first) == {"type", "session_id"}
        assert session.first["type"] == "session_init"
        session.read_until("# ")
        session.type("tty; echo term=$TERM; stty size; cat /proc/1/comm; echo image=$AWS_LAMBDA_MICROVM_IMAGE_NAME.\n")
        session.read_until("image=$")
        shown = session.read_until("image=")
        for expected in ("/dev/pts/", "term=xterm", "0 0", "perl"):
            assert expected in shown
        session.resize(132, 43)
        session.type("stty size\n")
        session.read_until("43 132")
        session.type("exit\n")
        assert session.read_closing() == (1000, "shell exited")


def test_ctrl_c_interrupts_and_gives_130(shell_microvm: Microvm) -> None:
    """Job control works: the signal ends the command in front, not the shell.

    The command says itself that it runs: a signal before that may find the shell's handler still in its place.
    """
    with open_shell(shell_microvm) as session:
        session.read_until("# ")
        session.type("""perl -e '$| = 1; print "be", "gin\\n"; sleep 1000'; echo slept\n""")
        session.read_until("begin")
        session.type("\x03")
        session.type("echo code=$?.\n")
        session.read_until("code=130.")


def test_utf_8_and_unknown_json_are_typed(shell_microvm: Microvm) -> None:
    """Text frames are typed as they are, also JSON that is no resize; no byte is changed on the way."""
    with open_shell(shell_microvm) as session:
        session.websocket.send("printf '%s|' 'grüße λ 🔥'\n")
        session.read_until("grüße λ 🔥|")
        session.websocket.send('echo \'{"type":"other"}\' | wc -c\n')
        session.read_until("17\r\n")
