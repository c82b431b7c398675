"""The network of RUN steps."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from emberbox.app.builds import _build_network
from emberbox.host.network.slots import DNS_ADDRESS, Slot, plan_slot
from emberbox.images.containers import BuildNetwork
from emberbox.model.egress import NO_EGRESS
from emberbox.model.errors import HostError

SLOT = plan_slot(IPv4Network("10.99.0.0/16"), 0, 3)


class Tap:
    """Networks that are not there; what is done with them is noted."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    async def take(self) -> Slot:
        self.done.append("take")
        return SLOT

    async def restrict(self, slot: Slot, egress: object) -> None:
        self.done.append(("restrict", slot, egress))

    async def open_to_builds(self, slot: Slot) -> None:
        self.done.append(("open", slot))

    async def give_back(self, slot: Slot) -> None:
        self.done.append(("give back", slot))


async def test_without_networks_of_their_own_steps_have_what_buildah_gives_them() -> None:
    async with _build_network(None)(None) as network:
        assert network == BuildNetwork()
    with pytest.raises(HostError, match="needs networks of its own"):
        async with _build_network(None)(NO_EGRESS):
            pass


async def test_steps_get_a_network_and_give_it_back_whatever_happens() -> None:
    tap, seen = Tap(), []

    async def build() -> None:
        async with _build_network(tap)(None) as network:  # type: ignore[arg-type]
            seen.append(network)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await build()
    assert seen == [BuildNetwork(SLOT.namespace_path, DNS_ADDRESS)]
    assert tap.done == ["take", ("open", SLOT), ("give back", SLOT)]


async def test_a_policy_counts_before_a_network_is_opened() -> None:
    tap = Tap()
    async with _build_network(tap)(NO_EGRESS):  # type: ignore[arg-type]
        pass
    assert tap.done == ["take", ("restrict", SLOT, NO_EGRESS), ("open", SLOT), ("give back", SLOT)]
