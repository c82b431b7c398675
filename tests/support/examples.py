"""The shipped examples, run as their users run them: a process with the environment that `emberbox env` prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from emberbox.time_limits import limit_s

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 1800
CALL = "import socket; socket.create_connection(('deb.debian.org', 80), timeout=20)"
"""Python that needs a way out."""

COMMAND = re.compile(r"^ {4}python (examples/\S+)", re.MULTILINE)


def run_example(name: str, environment: Mapping[str, str], *arguments: str) -> str:
    """Run the `run.py` of an example and return what it printed; a failure shows that and its errors."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "EMBERBOX_"))}
    done = subprocess.run(
        [sys.executable, f"examples/{name}/run.py", *arguments],
        env={**plain, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit_s(TIMEOUT_S),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def named_programs(name: str) -> set[str]:
    """Return the programs that the README of an example tells its readers to run."""
    return set(COMMAND.findall((EXAMPLES / name / "README.md").read_text()))
