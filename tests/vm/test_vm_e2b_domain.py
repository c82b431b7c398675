"""E2B's SDKs, unmodified, with no more than `emberbox e2b-keys create --tls` and `emberbox env` print: all over TLS."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import Sandbox

from support.e2b import e2b_desk, named_sandbox
from support.images import Image
from support.server import Server
from support.third_party import Desk

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a hosts file of its own"),
]

PYTHON = """
import json, sys, urllib.request
from e2b import Sandbox
sandbox = Sandbox.connect(sys.argv[1])
heard = []
sandbox.commands.run("echo out; echo err >&2", on_stdout=heard.append)
sandbox.files.write("/tmp/big", b"x" * 3_000_000)
port = urllib.request.urlopen(f"https://{sandbox.get_host(8080)}/").read().decode()
print(json.dumps({"heard": heard, "size": len(sandbox.files.read("/tmp/big")), "port": json.loads(port)["port"],
                  "listed": any(one.sandbox_id == sandbox.sandbox_id for one in Sandbox.list().next_items()),
                  "host": sandbox.get_host(8080)}))
"""
CURL = [
    "curl",
    "--silent",
    "--show-error",
    "--output",
    "/dev/null",
    "--write-out",
    "%{http_version} %{http_code}",
    "--http2",
]


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    return e2b_desk(server, tmp_path)


@pytest.fixture
def sandbox(desk: Desk, probe_image: Image) -> Iterator[Sandbox]:
    with named_sandbox(desk, probe_image.name, 49983, 8080, 8999) as sandbox:
        yield sandbox


def test_the_domain_alone_leads_the_sdk_here(server: Server, desk: Desk, sandbox: Sandbox) -> None:
    assert desk.environment["E2B_DOMAIN"] == f"e2b.ember.test:{server.endpoints['gateway'].rpartition(':')[2]}"
    assert json.loads(desk.run(sys.executable, "-c", PYTHON, sandbox.sandbox_id)) == {
        "heard": ["out\n"],
        "size": 3_000_000,
        "port": 8080,
        "listed": True,
        "host": f"8080-{sandbox.sandbox_id}.{server.endpoints['e2b_domain']}",
    }


def test_ports_speak_http2_to_clients_and_an_empty_502_is_where_nothing_listens(
    server: Server, desk: Desk, sandbox: Sandbox
) -> None:
    name = f"{sandbox.sandbox_id}.{server.endpoints['e2b_domain']}"
    assert desk.run(*CURL, f"https://8080-{name}/") == "2 200"
    assert desk.run(*CURL, f"https://8999-{name}/") == "2 502"
