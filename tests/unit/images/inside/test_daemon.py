"""What BuildKit prints, as the build's log has it; and what is said of a server that does not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.images.inside.daemon import DaemonError, _running, own_words
from emberbox.model.errors import BuildError
from support.waiting import wait_for


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("#5 0.181 before-it-failed", "before-it-failed"),
        ("#12 13.7 #5 0.181 x", "#5 0.181 x"),
        ("#5 0.181 ", ""),
        ("#5 [2/2] RUN echo 1.5 x", "#5 [2/2] RUN echo 1.5 x"),
        ("#5 DONE 0.2s", "#5 DONE 0.2s"),
        ("", ""),
    ],
)
def test_a_steps_words_come_without_number_and_time(line: str, told: str) -> None:
    assert own_words(line) == told


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(DaemonError, match="sh does not start: no room"),
        _running(["sh", "-c", "echo no room >&2; exit 1"], tmp_path / "socket"),
    ):
        pytest.fail("it has not started")


def test_a_server_that_has_ended_is_named_for_what_failed_then(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    script = f"echo out of something >&2; echo $$ > {socket}.new; mv {socket}.new {socket}"
    with pytest.raises(DaemonError, match="sh has ended: out of something"), _running(["sh", "-c", script], socket):
        _lose_connection(Path(f"/proc/{int(socket.read_text())}/stat"))


def _lose_connection(status: Path) -> None:
    wait_for("the server's end", lambda: status.read_text().rpartition(")")[2].split()[0] == "Z" or None)
    raise ConnectionResetError("read unix: connection reset by peer")


def test_what_fails_while_a_server_runs_is_told_as_it_is(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    with (
        pytest.raises(BuildError, match="the step failed"),
        _running(["sh", "-c", f"touch {socket}; exec sleep 60"], socket),
    ):
        raise BuildError("CONTAINER_BUILD_FAILED", "the step failed")
