"""The quickstart on a terminal leaves what it made: a link that logs in, and commands that work as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request

import pytest

from support import host
from support.server import Server, make_home, seed

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

TIMEOUT_S = 900


def run(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        server.command(*arguments), env=server.environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_it_says_at_the_end_is_true() -> None:
    server = Server(make_home())
    try:
        seed(server.home)
        said = run(server, "quickstart", "--keep")
        assert re.search(r"│ \[2/4\] RUN apt-get update", said), said
        assert "Setting up " not in said  # of the build's log the steps, and not what apt said

        found = re.search(r"^  (http://127\.0\.0\.1:\d+)/#/enter/(\S+)$", said, re.MULTILINE)
        assert found is not None, said
        request = urllib.request.Request(
            f"{found[1]}/api/session",
            json.dumps({"code": found[2]}).encode(),
            {"content-type": "application/json", "origin": found[1]},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

        printed = re.findall(r"^  \./run emberbox (\w+ .*)$", said, re.MULTILINE)
        assert [line.split()[0] for line in printed] == ["shell", "fork", "init"]
        assert run(server, "ps").count("RUNNING") == 2
        run(server, *printed[1].split())
        assert run(server, "ps").count("microvm-") == 5
        run(server, "down")
        assert not host.processes_of(server.home)
    finally:
        server.remove()
