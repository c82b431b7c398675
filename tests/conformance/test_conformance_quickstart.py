"""The README's first command, as a newcomer types it."""

from __future__ import annotations

import re
import subprocess

import pytest

from support import host
from support.server import Server, make_home, seed

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

QUICKSTART_TIMEOUT_S = 900


def test_the_quickstart_shows_the_whole_way_and_leaves_nothing_running() -> None:
    """It ends well, tells how long each step took, and stops the server that it started."""
    server = Server(make_home())
    try:
        seed(server.home)
        done = subprocess.run(
            server.command("quickstart"),
            env={**server.environment, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=QUICKSTART_TIMEOUT_S,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        steps = ["server started", "image built", "microVM A suspended", "microVM A resumed", "image deleted"]
        for step in steps:
            assert re.search(rf"✓ {step}.* \d+\.\d\d s", done.stdout), f"{step} is missing in\n{done.stdout}"
        assert not host.processes_of(server.home) + host.mounts_below(server.home)
        assert not (server.home / "runtime" / "endpoints.json").exists()
        assert not list((server.home / "microvms").iterdir())
    finally:
        server.remove()
