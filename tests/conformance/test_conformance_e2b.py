"""E2B's SDK for JavaScript, unmodified, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.e2b import e2b_variables
from support.images import Image
from support.server import Server

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

SCRIPTS = Path(__file__).parent / "javascript"
RUN_TIMEOUT_S = 300


def test_the_javascript_sdk_of_e2b_goes_through_the_life_of_a_sandbox(
    packages: Path, tmp_path: Path, server: Server, probe_image: Image
) -> None:
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("e2b.mjs", "package.json"):
        shutil.copy(SCRIPTS / name, tmp_path)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **e2b_variables(server)}
    command = ["node", "e2b.mjs", probe_image.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
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
