"""`emberbox logs`, with the real SDK against a small server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import LogsApi
from typer.testing import CliRunner

from emberbox.cli.logs import group_of
from emberbox.cli.main import app

GROUP = "/aws/lambda-microvms/app"
NOON = 1_700_000_000_000


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("app", GROUP),
        ("/my/group", "/my/group"),
        ("arn:aws:lambda:us-east-1:000000000000:microvm-image:app", GROUP),
    ],
)
def test_the_group_is_found_by_what_a_user_says(name: str, group: str) -> None:
    assert group_of(name) == group


def test_all_pages_are_shown_in_order(logs_api: LogsApi) -> None:
    for number in range(5):
        logs_api.add(GROUP, f"e{number}", NOON + number, f"line {number}\n")
    result = CliRunner().invoke(app, ["logs", "app"])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [f"line {number}" for number in range(5)]
    assert all(re.match(r"\d\d:\d\d:\d\d\.00\d ", line) for line in lines)


def test_a_stream_can_be_chosen(logs_api: LogsApi) -> None:
    logs_api.add(GROUP, "e1", NOON, "of one", stream="one")
    logs_api.add(GROUP, "e2", NOON, "of two", stream="two")
    result = CliRunner().invoke(app, ["logs", "app", "--stream", "two"])
    assert "of two" in result.stdout
    assert "of one" not in result.stdout


def test_a_group_that_does_not_exist_is_said_with_those_that_do(logs_api: LogsApi) -> None:
    logs_api.add(GROUP, "e1", NOON, "text")
    result = CliRunner().invoke(app, ["logs", "ap"])
    assert result.exit_code == 1
    assert result.stderr == f"error: there is no log group /aws/lambda-microvms/ap; there are: {GROUP}\n"


def test_following_goes_on_until_interrupted(home: Path, logs_api: LogsApi) -> None:
    child = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-u", "-m", "emberbox.cli.main", "logs", "app", "--follow"],
        env={**os.environ, "EMBERBOX_HOME": str(home)},  # who starts the tests may ignore interrupts
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        for number in range(3):
            logs_api.add(GROUP, f"e{number}", NOON + number, f"line {number}")
            assert child.stdout.readline().endswith(f" line {number}\n")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, out, err) == (0, "", "")
