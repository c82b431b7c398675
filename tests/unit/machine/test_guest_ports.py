"""By which way a port of a guest is reached: what its network leads to, or its agent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from emberbox.guest.agent import Agent
from emberbox.guest.protocol import Place
from emberbox.machine.connections import Carry, Connection, UserConnection
from emberbox.machine.guest_ports import GuestPorts, find_direct_place
from emberbox.vmm.base import Vm
from emberbox.vmm.gvisor.driver import CAPABILITIES as OF_GVISOR
from emberbox.vmm.qemu.driver import CAPABILITIES as OF_QEMU


class Slot:
    """A connection by a slot of the host's."""

    slot_number = 0


class Ways:
    """A connection that tells by which way a port was asked for."""

    carry: Carry

    async def reach(self, _vm: Vm, port: int) -> tuple[str, int]:
        return "network", port

    async def relay(self, port: int) -> tuple[str, int]:
        return "agent", port


class Found:
    """An agent in whose guest every port is open at one kind of address."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def open_stream(self, _port: int, _timeout_s: float) -> Any:
        place = self._place

        class Stream:
            def __init__(self) -> None:
                self.place = place

            def close(self) -> None:
                """It was only looked for."""

        return Stream()


@pytest.mark.parametrize("leads_to_loopback", [True, False])
def test_a_slot_leads_to_one_of_the_guests_addresses(leads_to_loopback: bool) -> None:
    capabilities = replace(OF_GVISOR, leads_to_loopback=leads_to_loopback)
    place = find_direct_place(capabilities, cast("Connection", Slot()))
    assert place is (Place.LOOPBACK if leads_to_loopback else Place.OWN_ADDRESS)


def test_a_user_network_leads_to_ports_where_the_engine_opens_them() -> None:
    assert find_direct_place(OF_QEMU, UserConnection()) is Place.LOOPBACK
    assert find_direct_place(OF_GVISOR, UserConnection()) is None


@pytest.mark.parametrize(
    ("direct", "open_at", "way"),
    [
        (Place.LOOPBACK, Place.LOOPBACK, "network"),
        (Place.LOOPBACK, Place.LOOPBACK6, "agent"),
        (Place.OWN_ADDRESS, Place.LOOPBACK, "agent"),
        (None, Place.LOOPBACK, "agent"),
        (None, Place.OWN_ADDRESS, "agent"),
    ],
)
@pytest.mark.parametrize("is_doubted", [True, False])
async def test_a_port_is_reached_by_what_leads_to_it(
    direct: Place | None, open_at: Place, way: str, is_doubted: bool
) -> None:
    """A port that is known from the snapshot is where the network leads, unless that leads nowhere."""
    agent, connection = cast("Agent", Found(open_at)), cast("Connection", Ways())
    ports = GuestPorts({8080: False}, cast("Vm", None), connection, lambda: agent, direct)
    assert await ports.reach(9090) == (way, 9090)
    if is_doubted:
        ports.doubt(8080)
        assert await ports.reach(8080) == (way, 8080)
    else:
        assert await ports.reach(8080) == ("agent" if direct is None else "network", 8080)
