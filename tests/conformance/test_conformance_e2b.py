"""E2B's SDKs for JavaScript and its command line, unmodified, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2b import Sandbox

from support.e2b import e2b_desk, e2b_environment, e2b_variables, named_sandbox
from support.images import Image
from support.server import Server

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

SCRIPTS = Path(__file__).parent / "javascript"
RUN_TIMEOUT_S = 300

Run = Callable[..., str]


@pytest.fixture
def run(packages: Path, tmp_path: Path, server: Server) -> Run:
    """Runs a script, or a program of a package, with E2B's own variables alone; returns what it prints."""
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    shutil.copy(SCRIPTS / "package.json", tmp_path)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **e2b_variables(server)}

    def run(script: str, *arguments: str) -> str:
        if script.endswith(".mjs"):
            shutil.copy(SCRIPTS / script, tmp_path)
        done = subprocess.run(
            ["node", script, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run


def test_the_javascript_sdk_of_e2b_goes_through_the_life_of_a_sandbox(run: Run, probe_image: Image) -> None:
    assert json.loads(run("e2b.mjs", probe_image.name)) == {
        "run": "out 1\n",
        "exit": 3,
        "listed": True,
        "killed": True,
        "read": "text",
        "size": 2_000_000,
        "names": ["a", "b"],
        "gone": True,
        "terminal": True,
        "paused": "paused",
        "resumed": "running",
        "kept": "kept\n",
        "found": True,
        "missing": True,
    }


def test_the_javascript_sdk_of_its_code_interpreter_runs_code(run: Run, flask_image: Image) -> None:
    assert json.loads(run("code.mjs", flask_image.name)) == {
        "text": "42",
        "count": 2,
        "said": [["said\n"], ["wrong\n"]],
        "heard": ["0\n", "1\n", "2\n"],
        "live": True,
        "forms": ["cG5n", "<b>1</b>", False, {"a": [1]}, True],
        "error": ["ZeroDivisionError", "division by zero", True],
        "environment": "['create', '1']",
        "homeless": "/",
        "context": "('theirs', '/tmp')",
        "apart": "41",
        "listed": True,
        "restarted": "NameError",
        "removed": True,
        "refused": "NotFoundError",
        "late": "TimeoutError",
        "interrupted": "2",
        "bash": ["42\n"],
        "file": "'text'",
        "kept": "2",
    }


def test_its_command_line_lists_templates_and_sandboxes(run: Run, server: Server, probe_image: Image) -> None:
    def e2b(*arguments: str) -> Any:  # Any: each command prints JSON of its own
        return json.loads(run("node_modules/@e2b/cli/dist/index.js", *arguments, "--format", "json"))

    templates = {template["templateID"]: template for template in e2b("template", "list")}
    with e2b_environment(server), Sandbox.create(probe_image.name) as sandbox:
        (listed,) = [one for one in e2b("sandbox", "list") if one["sandboxId"] == sandbox.sandbox_id]
        told = templates[listed["templateId"]]
    assert (told["names"], told["memoryMB"], told["buildStatus"]) == ([probe_image.name], 512, "ready")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a hosts file of its own")
def test_the_domain_alone_leads_both_sdks_here_over_tls(
    packages: Path, tmp_path: Path, server: Server, flask_image: Image
) -> None:
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    shutil.copy(SCRIPTS / "domain.mjs", tmp_path)
    desk = e2b_desk(server, tmp_path)
    with named_sandbox(desk, flask_image.name, 49983, 49999, 8080) as sandbox:
        assert json.loads(desk.run("node", "domain.mjs", sandbox.sandbox_id)) == {
            "run": "out\n",
            "code": "42",
            "status": 200,
            "host": f"8080-{sandbox.sandbox_id}.{server.endpoints['e2b_domain']}",
        }
