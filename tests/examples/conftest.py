"""A server for the examples, and what `emberbox env` prints of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from emberbox_sdk import Client, Config
from support.aws import Clients
from support.images import BUILD_ROLE
from support.server import Server
from support.waiting import wait_for

NETWORKS = """
[subnet-any]
cidrs = []
internet = true
[sg-none]
allow = []
"""


@pytest.fixture(scope="session")
def environment(server: Server) -> dict[str, str]:
    return variables(get_server(server.home))


@pytest.fixture(scope="module")
def sdk(environment: dict[str, str]) -> Iterator[Client]:
    with Client(Config.from_environment(environment)) as client:
        yield client


@pytest.fixture(scope="session")
def no_egress(server: Server, clients: Clients) -> Iterator[str]:
    """A network connector that lets nothing pass."""
    networks = server.home / "networks.toml"
    networks.write_text(NETWORKS)
    vpc: dict[str, Any] = {
        "SubnetIds": ["subnet-any"],
        "SecurityGroupIds": ["sg-none"],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    }
    made = clients.core.create_network_connector(
        Name=f"no-egress-{uuid.uuid4().hex[:8]}",
        Configuration={"VpcEgressConfiguration": vpc},
        OperatorRole=BUILD_ROLE,
    )
    arn = str(made["Arn"])
    wait_for(
        "the connector is ACTIVE",
        lambda: clients.core.get_network_connector(Identifier=arn)["State"] == "ACTIVE",
        30,
    )
    yield arn
    clients.core.delete_network_connector(Identifier=arn)
    networks.unlink()
