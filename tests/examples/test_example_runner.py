"""examples/runner: what a stranger's patch can and cannot do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emberbox_sdk import Client, Sandbox
from support.examples import CALL, run_example

pytestmark = [
    pytest.mark.vm,
    pytest.mark.both_engines,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives microVMs networks of their own"),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], no_egress: str) -> Path:
    """The logs and results of the four jobs that the example runs."""
    directory = tmp_path_factory.mktemp("runner")
    run_example("runner", environment, "--egress", no_egress, "--out", str(directory))
    return directory


@pytest.fixture(scope="module")
def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"{number}.json").read_text()) for number in (1, 2, 3, 4)]


def test_each_patch_has_its_verdict(out: Path, results: list[dict[str, Any]]) -> None:
    assert [(row["patch"], row["exit_code"]) for row in results] == [
        ("good", 0),
        ("wrong", 1),
        ("poison", 0),
        ("good", 0),
    ]
    assert "test_a_triangle" in (out / "1.log").read_text()
    assert "assert 5 == 6" in (out / "2.log").read_text()


def test_what_all_jobs_need_cannot_be_changed_and_nothing_is_called(out: Path) -> None:
    attempts = dict(
        line.removeprefix("attempt: ").rsplit(": ", 1)
        for line in (out / "3.log").read_text().splitlines()
        if line.startswith("attempt: ")
    )
    done = {name for name, came_to in attempts.items() if came_to == "done"}
    assert len(attempts) == 9
    assert done == {
        "write /tmp/left-behind",
        "write /dev/shm/left-behind",
        "write /home/job/.local/lib/python3.11/site-packages/usercustomize.py",
        "stay",
    }


def test_what_a_job_leaves_is_gone_with_its_microvm(results: list[dict[str, Any]], sdk: Client) -> None:
    poison, after = results[2:]
    assert poison["left"] != poison["found"], "the job has left nothing, so that this would prove nothing"
    assert after["found"] == poison["found"] == results[0]["found"]
    assert len({row["microvm"] for row in results}) == 4
    running = {info.id for info in Sandbox.list(client=sdk)}
    assert running.isdisjoint(row["microvm"] for row in results)


def test_the_call_would_have_got_through_without_the_connector(out: Path, sdk: Client) -> None:
    with Sandbox.create("example-runner", client=sdk) as sandbox:
        assert sandbox.run(["python3", "-c", CALL]).exit_code == 0
