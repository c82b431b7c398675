"""Daytona's SDK: commands and sessions, before a stop and after it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    Daytona,
    Sandbox,
    SessionExecuteRequest,
)
from daytona.common.errors import (
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    DaytonaProcessExecutionTimeoutError,
    DaytonaSessionEndedError,
)

SNAPSHOT = os.environ["EMBERBOX_TEST_SNAPSHOT"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    variables = {"FROM": "create", "BOTH": "create"}
    made = Daytona().create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, env_vars=variables))
    yield made
    made.delete()


def wait_until(is_true: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_command_has_output_variables_and_directory(sandbox: Sandbox) -> None:
    done = sandbox.process.exec("pwd; echo out $FROM $BOTH; echo err >&2; exit 3", cwd="/usr", env={"BOTH": "here"})
    assert (done.exit_code, done.result) == (3, "/usr\nout create here\nerr\n")
    assert done.artifacts is not None
    assert done.artifacts.stdout == done.result
    assert sandbox.process.exec("cat", cwd="/nowhere").exit_code == 126


def test_a_command_that_takes_too_long_is_killed(sandbox: Sandbox) -> None:
    with pytest.raises(DaytonaProcessExecutionTimeoutError) as failed:
        sandbox.process.exec("echo $$ >/tmp/slow; exec sleep 1000", timeout=1)
    assert failed.value.status_code == 408
    wait_until(lambda: sandbox.process.exec("kill -0 $(cat /tmp/slow)").exit_code != 0)


def test_much_output_arrives_whole_up_to_a_limit(sandbox: Sandbox) -> None:
    assert sandbox.process.exec("seq 1 100000").result == "".join(f"{number}\n" for number in range(1, 100_001))
    with pytest.raises(DaytonaError, match="8388608 bytes") as failed:
        sandbox.process.exec("yes | head -c 20000000")
    assert failed.value.status_code == 413


def test_a_session_keeps_directory_and_variables(sandbox: Sandbox) -> None:
    process = sandbox.process
    process.create_session("keeps")
    first = process.execute_session_command("keeps", SessionExecuteRequest(command="cd /usr; X=1; export X"))
    assert (first.exit_code, first.stdout, first.stderr) == (0, "", "")
    second = process.execute_session_command("keeps", SessionExecuteRequest(command="pwd; echo $X $FROM; ls /no >&2"))
    assert second.exit_code != 0
    assert second.stdout == "/usr\n1 create\n"
    assert "/no" in (second.stderr or "")
    broken = process.execute_session_command("keeps", SessionExecuteRequest(command="if then ("))
    assert broken.exit_code != 0
    assert process.execute_session_command("keeps", SessionExecuteRequest(command="echo $X")).stdout == "1\n"

    found = process.get_session("keeps")
    assert [command.id for command in found.commands][:2] == [first.cmd_id, second.cmd_id]
    assert found.commands[1].exit_code == second.exit_code
    assert process.get_session_command("keeps", second.cmd_id).command.startswith("pwd")
    assert process.get_session_command_logs("keeps", second.cmd_id).stdout == "/usr\n1 create\n"
    with pytest.raises(DaytonaConflictError):
        process.create_session("keeps")
    assert "keeps" in [session.session_id for session in process.list_sessions()]
    process.delete_session("keeps")
    with pytest.raises(DaytonaNotFoundError):
        process.get_session("keeps")


def test_a_session_whose_shell_has_ended_says_so(sandbox: Sandbox) -> None:
    sandbox.process.create_session("ends")
    assert sandbox.process.execute_session_command("ends", SessionExecuteRequest(command="exit 5")).exit_code == 5
    with pytest.raises(DaytonaSessionEndedError):
        sandbox.process.execute_session_command("ends", SessionExecuteRequest(command="true"))
    sandbox.process.delete_session("ends")


def test_an_asynchronous_command_takes_input_and_is_followed(sandbox: Sandbox) -> None:
    process = sandbox.process
    process.create_session("follows")
    text = "read x; echo got $x; echo err >&2; sleep 1; echo ünd"
    begun = process.execute_session_command("follows", SessionExecuteRequest(command=text, run_async=True))
    assert process.get_session_command("follows", begun.cmd_id).exit_code is None
    process.send_session_command_input("follows", begun.cmd_id, "it\n")
    heard: dict[str, str] = {"out": "", "err": ""}

    def hear(where: str, text: str) -> None:
        heard[where] += text

    asyncio.run(
        process.get_session_command_logs_async(
            "follows", begun.cmd_id, lambda text: hear("out", text), lambda text: hear("err", text)
        )
    )
    assert heard == {"out": "got it\nünd\n", "err": "err\n"}
    assert process.get_session_command("follows", begun.cmd_id).exit_code == 0
    with pytest.raises(DaytonaNotFoundError):
        process.get_session_command_logs("follows", "none")
    process.delete_session("follows")


def test_files_processes_and_sessions_outlive_a_stop() -> None:
    sandbox = Daytona().create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT))
    try:
        process = sandbox.process
        sandbox.fs.upload_file(b"before", "/tmp/before")
        process.create_session("stays")
        process.execute_session_command("stays", SessionExecuteRequest(command="cd /usr; X=kept"))
        beat = "while :; do date >/tmp/next; mv /tmp/next /tmp/beat; sleep 0.2; done"
        begun = process.execute_session_command("stays", SessionExecuteRequest(command=f"({beat}) &", run_async=True))
        process.exec("mkdir -p /tmp/gone")
        sandbox.stop(timeout=600)
        assert str(sandbox.state) == "SandboxState.STOPPED"
        with pytest.raises(DaytonaConflictError, match="start"):
            process.exec("true")
        sandbox.start(timeout=600)
        assert sandbox.fs.download_file("/tmp/before") == b"before"
        again = process.execute_session_command("stays", SessionExecuteRequest(command="pwd; echo $X"))
        assert again.stdout == "/usr\nkept\n"
        assert process.get_session_command("stays", begun.cmd_id).exit_code == 0
        sandbox.fs.delete_file("/tmp/beat")
        wait_until(lambda: process.exec("cat /tmp/beat").exit_code == 0)  # it goes on
        process.delete_session("stays")
    finally:
        sandbox.delete()
