"""A server as users have it: names below localhost, port 443, no setting of the tests' but ports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server import Server, make_home
from support.third_party import Desk, fetch_name_module


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Overrides the one of all other tests, whose names resolve nowhere."""
    assert os.geteuid() == 0, "these tests need root: for port 443, and for a hosts file of their own"
    with Server(make_home(), domain="localhost", https_port="443").running() as server:
        assert server.endpoints["https_port"] == 443, "port 443 of this machine is taken; clients need it"
        yield server


@pytest.fixture(scope="session")
def desk(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A user's shell; every client of a run works at the same one."""
    return Desk(server, tmp_path_factory.mktemp("desk"), fetch_name_module())


@pytest.fixture
def aws_desk(server: Server, tmp_path: Path) -> Iterator[Desk]:
    """One on whose machine AWS's own names lead to the server, and no variable says where it is."""
    desk = Desk(server, tmp_path, fetch_name_module())
    desk.add_hosts(desk.emberbox("trust", "--aws-names", "--bucket", "fixed-names"))
    desk.environment = {
        name: value for name, value in desk.environment.items() if not name.startswith("AWS_ENDPOINT_URL")
    }
    yield desk
    (server.home / "runtime/aws-names").unlink(missing_ok=True)
