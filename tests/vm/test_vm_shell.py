"""The shell of a microVM: the frames of the AWS service, and a real terminal in the application's container."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import shell
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.shell import open_shell

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]


@pytest.fixture(scope="module")
def opened(gateway: object, probe_image: Image, server: Server) -> Microvm:  # type: ignore[misc]
    """A microVM of the probe image that lets shells and requests in; one for all tests here."""
    connectors = shell.ingress(server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = Microvm.launch(gateway, probe_image, ingressNetworkConnectors=connectors)  # type: ignore[arg-type]
    microvm.wait_state("RUNNING")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


def test_a_shell_is_a_terminal_in_the_container(opened: Microvm) -> None:
    """It has a session id, a prompt, TERM, a size of zero until the first resize, and the application's files."""
    with open_shell(opened) as session:
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


def test_ctrl_c_interrupts_and_gives_130(opened: Microvm) -> None:
    """Job control works: the signal ends the command in front, not the shell."""
    with open_shell(opened) as session:
        session.type("sleep 1000; echo slept\n")
        session.read_until("slept")
        session.type("\x03")
        session.type("echo code=$?.\n")
        session.read_until("code=130.")


def test_utf_8_and_unknown_json_are_typed(opened: Microvm) -> None:
    """Text frames are typed as they are, also JSON that is no resize; no byte is changed on the way."""
    with open_shell(opened) as session:
        session.websocket.send("printf '%s|' 'grüße λ 🔥'\n")
        session.read_until("grüße λ 🔥|")
        session.websocket.send('echo \'{"type":"other"}\' | wc -c\n')
        session.read_until("17\r\n")
