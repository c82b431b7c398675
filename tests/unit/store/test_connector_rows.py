"""The form of network connectors' configurations in the database: that of AWS's requests, as it has always been."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emberbox.model.connectors import VpcEgress
from emberbox.store.connectors import read_configuration, write_configuration

LEAST = {"SubnetIds": ["subnet-a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}


@pytest.mark.parametrize(
    "vpc",
    [
        LEAST,
        LEAST | {"SecurityGroupIds": []},
        LEAST | {"SecurityGroupIds": ["sg-b", "sg-a"], "SubnetIds": ["subnet-b", "subnet-a"]},
        LEAST | {"ElasticIpConfiguration": {"Type": "None"}},
        {},
    ],
)
def test_what_is_stored_is_read_and_written_without_loss(vpc: dict[str, Any]) -> None:
    stored = {"VpcEgressConfiguration": vpc}
    assert json.loads(json.dumps(write_configuration(read_configuration(stored)))) == stored


@pytest.mark.parametrize(
    "configuration", [VpcEgress(), VpcEgress(("a",), (), "DualStack", ("MicroVm",), "None"), VpcEgress(("a", "b"))]
)
def test_what_is_written_is_read_as_it_was(configuration: VpcEgress) -> None:
    assert read_configuration(write_configuration(configuration)) == configuration
