"""Daytona's SDKs, unmodified, from PyPI and npm: the cases in `daytona`, and the example of the document."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from e2b import Sandbox

from emberbox.time_limits import limit_s
from support.aws import Clients
from support.daytona import CASES, daytona_variables, run_cases, run_daytona
from support.e2b import e2b_environment
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/daytona.md"

_MADE = """
from daytona import CreateSandboxFromSnapshotParams, Daytona
print(Daytona().create(CreateSandboxFromSnapshotParams(snapshot={name!r}, labels={{"user": "ann"}})).id)
"""
_STATE = """
from daytona import Daytona
sandbox = Daytona().get({id!r})
print(sandbox.labels["user"], sandbox.process.exec("cat /tmp/seen").result)
sandbox.delete()
"""


def test_sandboxes_are_created_found_changed_and_deleted(server: Server, probe_image: Image, tmp_path: Path) -> None:
    run_cases(server, tmp_path, "cases_sandboxes.py", probe_image)


def test_files_are_copied_listed_and_searched(server: Server, probe_image: Image, tmp_path: Path) -> None:
    run_cases(server, tmp_path, "cases_files.py", probe_image)


@pytest.mark.both_engines
def test_commands_and_sessions_run_and_outlive_a_stop(server: Server, probe_image: Image, tmp_path: Path) -> None:
    run_cases(server, tmp_path, "cases_processes.py", probe_image)


def test_code_runs_and_contexts_keep_its_variables(server: Server, flask_image: Image, tmp_path: Path) -> None:
    run_cases(server, tmp_path, "cases_code.py", flask_image)


def test_the_javascript_sdk_goes_through_the_life_of_a_sandbox(
    server: Server, probe_image: Image, install: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(install(CASES / "package.json") / "node_modules")
    shutil.copy(CASES / "daytona.mjs", tmp_path)
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EMBERBOX_TEST_SNAPSHOT": probe_image.name}
    done = subprocess.run(
        ["node", "daytona.mjs"],
        cwd=tmp_path,
        env={**own, **daytona_variables(server)},
        capture_output=True,
        text=True,
        timeout=limit_s(600),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout) == {
        "run": [3, "out create\n"],
        "read": "text",
        "names": ["a b.txt"],
        "logs": {"out": "/usr\n", "err": "err\n"},
        "listed": [True],
        "stopped": "stopped",
        "again": "/usr\n",
        "none": ["DaytonaFileNotFoundError", 404],
    }


def test_every_edge_sees_the_same_sandbox(server: Server, probe_image: Image, clients: Clients, tmp_path: Path) -> None:
    made = run_daytona(server, tmp_path, "-c", _MADE.format(name=probe_image.name)).strip()

    with e2b_environment(server):
        sandbox = Sandbox.connect(made)
        assert sandbox.get_info().metadata["user"] == "ann"
        sandbox.files.write("/tmp/seen", "by E2B")
    assert clients.microvms.get_microvm(microvmIdentifier=made)["state"] == "RUNNING"
    assert run_daytona(server, tmp_path, "-c", _STATE.format(id=made)) == "ann by E2B\n"

    def has_ended() -> bool:
        return clients.microvms.get_microvm(microvmIdentifier=made)["state"] == "TERMINATED"

    wait_for("its microVM has ended", has_ended, 120)


def test_the_example_of_the_document_runs(server: Server, probe_image: Image, tmp_path: Path) -> None:
    example = re.search(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    text = example[1].replace("my-image", probe_image.name)
    assert "Linux" in run_daytona(server, tmp_path, "-c", text)
