"""Which networks are held over a suspend, what a resume spares, and when they are let go."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from emberbox.guest.protocol import SPARED_MAX, Spared
from emberbox.host.network.slots import DeviceKind, Slot
from emberbox.host.network.tap import TapNetwork
from emberbox.host.tcp import HostConnection
from emberbox.machine import connections
from emberbox.machine.connections import Connection, Connector
from emberbox.model.errors import HostError
from emberbox.vmm.base import Vm, Wire
from emberbox.vmm.qemu import tap
from emberbox.vmm.qemu.tap import HeldTap

pytestmark = pytest.mark.asyncio


class FakeNetwork:
    """Hands out `size` slots; its tap devices are pipes."""

    def __init__(self, size: int) -> None:
        self.free = list(range(size))
        self.opened = 0
        self.make_room: Callable[[], Awaitable[None]] | None = None

    async def take(self, _kind: DeviceKind) -> Slot:
        if not self.free and self.make_room is not None:
            await self.make_room()
        if not self.free:
            raise HostError("all are taken")
        return slot(self.free.pop(0))

    async def give_back(self, given: Slot) -> None:
        self.free.append(given.number)

    def namespace_path(self, given: Slot) -> Path:
        return Path("/run/netns", given.namespace)

    async def open_tap(self, _slot: Slot) -> int:
        self.opened += 1
        return os.open("/dev/null", os.O_RDWR)


class FakeVm:
    """A QEMU whose tap device can be kept."""

    def hold_network(self) -> HeldTap:
        return HeldTap.take_from(1)


VM = cast("Vm", FakeVm())


def slot(number: int) -> Slot:
    return Slot(number, f"ns{number}", f"eb{number}", f"10.213.0.{2 * number}", f"10.213.0.{2 * number + 1}")


def connected(number: int, port: int, undelivered: int = 0, source: str = "") -> HostConnection:
    return HostConnection(source or slot(number).host_address, port, 8080, undelivered, b"")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[HostConnection]]]:
    """What is connected to each address; the descriptors that are taken from VMMs are all closed at the end."""
    table: dict[str, list[HostConnection]] = {}
    ended: list[HostConnection] = []
    taken: list[int] = []

    def take_descriptor(_pid: int, _path: str) -> int:
        taken.append(os.open("/dev/null", os.O_RDWR))
        return taken[-1]

    monkeypatch.setattr(connections, "find_connections", lambda address: table.get(address, []))
    monkeypatch.setattr(connections, "end_connections", ended.extend)
    monkeypatch.setattr(tap, "take_descriptor", take_descriptor)
    yield table
    for descriptor in taken:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


async def start(connection: Connection) -> None:
    async with connection.attach() as network:
        assert isinstance(network, Wire)
        if network.held is None:
            os.close(await network.open_device())


async def suspend(connection: Connection) -> None:
    connection.hold(VM)
    await connection.release()


def make(size: int = 4) -> tuple[FakeNetwork, Connector]:
    network = FakeNetwork(size)
    return network, Connector(cast("TapNetwork", network))


async def test_a_network_with_clients_is_held_and_its_device_stays_open(found: dict[str, list[HostConnection]]) -> None:
    network, connector = make()
    first = await connector.connect("a")
    await start(first)
    assert first.spared() is None
    found["10.213.0.1"] = [connected(0, 4000), connected(0, 4001), connected(0, 9, source="192.0.2.7")]
    await suspend(first)
    assert 0 not in network.free
    again = await connector.connect("a")
    await start(again)
    assert network.opened == 1
    assert again.slot_number == 0
    assert again.spared() == Spared("10.213.0.0", ((4000, 8080), (4001, 8080)))
    await again.release()
    assert 0 in network.free


async def test_without_clients_the_network_is_given_back(found: dict[str, list[HostConnection]]) -> None:
    network, connector = make()
    first = await connector.connect("a")
    found["10.213.0.1"] = [connected(0, 9, source="192.0.2.7")]
    await suspend(first)
    assert 0 in network.free
    assert (await connector.connect("a")).spared() is None


async def test_what_is_let_go_spares_nothing(found: dict[str, list[HostConnection]]) -> None:
    network, connector = make()
    first = await connector.connect("a")
    found["10.213.0.1"] = [connected(0, 4000)]
    await suspend(first)
    await connector.let_go("a")
    await connector.let_go("a")
    assert network.free.count(0) == 1
    assert (await connector.connect("a")).spared() is None


async def test_a_start_that_fails_lets_go(found: dict[str, list[HostConnection]]) -> None:
    network, connector = make()
    first = await connector.connect("a")
    found["10.213.0.1"] = [connected(0, 4000)]
    await suspend(first)
    await (await connector.connect("a")).release()
    assert 0 in network.free


async def test_when_all_are_taken_the_longest_suspended_gives_way(found: dict[str, list[HostConnection]]) -> None:
    _, connector = make(2)
    for number, name in enumerate("ab"):
        connection = await connector.connect(name)
        found[slot(number).address] = [connected(number, 4000)]
        await suspend(connection)
    assert (await connector.connect("c")).slot_number == 0
    again = await connector.connect("b")
    assert again.spared() is not None
    with pytest.raises(HostError):
        await connector.connect("a")
    await again.release()


async def test_only_what_was_not_received_counts_as_undelivered(found: dict[str, list[HostConnection]]) -> None:
    _, connector = make()
    first = await connector.connect("a")
    found["10.213.0.1"] = [connected(0, 4000)]
    await suspend(first)
    assert not connector.has_undelivered("a")
    found["10.213.0.1"] = [connected(0, 4000), connected(0, 4001, undelivered=5)]
    assert connector.has_undelivered("a")
    assert not connector.has_undelivered("b")
    await connector.let_go("a")


async def test_an_adopted_guest_keeps_its_clients_and_too_many_are_reset(
    found: dict[str, list[HostConnection]], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, connector = make()

    async def adopt(number: int, _kind: DeviceKind) -> Slot:
        return slot(number)

    monkeypatch.setattr(network, "adopt", adopt, raising=False)
    adopted = await connector.adopt("a", 3)
    found["10.213.0.7"] = [connected(3, 4000)]
    assert adopted.spared() == Spared("10.213.0.6", ((4000, 8080),))
    found["10.213.0.7"] = [connected(3, port) for port in range(SPARED_MAX + 1)]
    assert adopted.spared() is None
