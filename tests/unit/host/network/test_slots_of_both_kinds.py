"""Networks of both kinds in one place: which are kept ready, and what is given up when all numbers are taken."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from emberbox.host.network import tap as tap_module
from emberbox.host.network.place import PlaceNote
from emberbox.host.network.slots import DeviceKind, Slot
from emberbox.host.network.tap import TapNetwork
from emberbox.model.errors import HostError

TAP, PACKETS = DeviceKind.TAP, DeviceKind.PACKETS


class Slots:
    """What the kernel has of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.there: dict[int, DeviceKind] = {}
        patch.setattr(tap_module, "_build", self.build)
        patch.setattr(tap_module, "remove_namespace", self.remove)
        patch.setattr(tap_module, "find_connections", lambda _address: [])
        patch.setattr(tap_module, "REFILL_DELAY_S", 0.0)

    async def build(self, slot: Slot, _thread: object, _direct: object) -> None:
        self.there[slot.number] = slot.kind

    async def remove(self, slot: Slot) -> None:
        self.there.pop(slot.number, None)

    def count(self, kind: DeviceKind) -> int:
        return list(self.there.values()).count(kind)


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> Slots:
    return Slots(monkeypatch)


@pytest.fixture
def network(tmp_path: Path, slots: Slots, monkeypatch: pytest.MonkeyPatch) -> TapNetwork:
    """It has six numbers, and keeps two ready."""
    monkeypatch.setattr(tap_module, "SLOTS_PER_INSTANCE", 6)
    network = TapNetwork(IPv4Network("10.213.0.0/16"), (0,), PlaceNote(tmp_path), tmp_path / "resolv.conf", spare=2)
    network._instance = 0

    async def answer(_slot: Slot) -> None:
        """Nobody asks."""

    monkeypatch.setattr(network._listeners, "answer", answer)
    return network


async def refilled(network: TapNetwork) -> None:
    assert network._refill is not None
    await network._refill


async def test_another_kind_is_kept_ready_from_when_it_is_first_asked_for(network: TapNetwork, slots: Slots) -> None:
    first = await network.take()
    await refilled(network)
    assert (first.kind, slots.count(TAP), slots.count(PACKETS)) == (TAP, 3, 0)
    other = await network.take(PACKETS)
    await refilled(network)
    assert (other.kind, slots.count(TAP), slots.count(PACKETS)) == (PACKETS, 3, 3)
    assert first.number != other.number


async def test_one_that_is_only_kept_ready_gives_way_to_another_kind(network: TapNetwork, slots: Slots) -> None:
    asked: list[str] = []

    async def make_room() -> None:
        asked.append("room")

    network.make_room = make_room
    await network.take()
    await refilled(network)
    for _ in range(3):
        await network.take(PACKETS)
    await refilled(network)
    assert (slots.count(TAP), slots.count(PACKETS)) == (3, 3)
    for left in (2, 1):
        assert (await network.take(PACKETS)).kind is PACKETS
        await refilled(network)
        assert slots.count(TAP) == left
    assert asked == []
    with pytest.raises(HostError, match="all 6 networks"):
        await network.take(PACKETS)
    assert asked == ["room"]


async def test_a_slot_is_taken_over_as_what_it_is(network: TapNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_arguments: object) -> None:
        """The namespace is not there."""

    for name in ("ip_batch", "apply_rules", "_tell_name_server"):
        monkeypatch.setattr(tap_module, name, nothing)
    monkeypatch.setattr(Slot, "namespace_path", property(lambda _slot: Path("/")))
    assert (await network.adopt(3, PACKETS)).kind is PACKETS
    assert (await network.adopt(4)).kind is TAP
