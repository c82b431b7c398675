"""Guests on an engine that is as unlike QEMU as can be: what is above the engine asks only what any engine has."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from emberbox.guest.agent import fresh_identity
from emberbox.guest.output import DropOutput
from emberbox.guest.protocol import Application
from emberbox.host.kernel import Kernel
from emberbox.host.network.slots import DeviceKind
from emberbox.host.space import DiskSpace
from emberbox.machine import checkpoint
from emberbox.machine.connections import Connector
from emberbox.machine.guests import GuestHost
from emberbox.machine.snapshot import ImageSnapshot, load_image_snapshot, load_suspended
from emberbox.machine.survivors import Survivor
from emberbox.model.errors import HostError, VmmError
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.base import MachineShape, Network, Vm, VmmDriver, Wire
from emberbox.vmm.engine import Engine
from support.engine_contract import count
from support.fake_engine import FakeEngine

SHAPE = MachineShape(1, 1)
APPLICATION = Application(("app",), (), "/", 0, 0, (), 0, False, "h", "")
KERNEL = Kernel("none", Path("vmlinuz"), Path("initramfs"))


class WiredConnection:
    """A network of the host's, which nothing is sent over."""

    slot_number = None
    names = None

    @contextlib.asynccontextmanager
    async def attach(self) -> AsyncIterator[Network]:
        async def open_device() -> int:
            raise AssertionError("this engine takes the namespace")

        yield Wire(Path("/run/netns/one"), "tap0", open_device, None)

    def serve_metadata(self, _serve: object) -> None:
        """Nobody asks."""

    async def cut(self) -> None:
        """It has no clients."""

    def hold(self, _vm: Vm) -> None:
        raise AssertionError("this engine cannot hold networks")

    def spared(self) -> None:
        return None

    def keep(self) -> None:
        """It is nobody's."""

    async def release(self) -> None:
        """It is nobody's."""


class Wires:
    """Connects guests in that way."""

    async def connect(self, _microvm_id: str, _device: DeviceKind) -> WiredConnection:
        return WiredConnection()

    async def adopt(self, _microvm_id: str, _slot: int | None, _device: DeviceKind) -> WiredConnection:
        return WiredConnection()


class World:
    """A host with one image."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.engine = FakeEngine()
        self.host = self.next_server()
        self.image: ImageSnapshot

    def next_server(self) -> GuestHost:
        """Return what starts guests, with no memory of others."""
        driver: VmmDriver = self.engine
        return GuestHost(driver, cast("Connector", Wires()), None, None, DiskSpace(self.home, 0))

    def directory(self, name: str) -> Path:
        """Return a new directory."""
        (self.home / name).mkdir()
        return self.home / name


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """Its image was booted here: its application has counted to 1."""
    world, directory = World(tmp_path), tmp_path / "image"
    directory.mkdir()
    (directory / "root.erofs").write_bytes(b"root")
    guest = await world.host.boot(directory, directory / "root.erofs", SHAPE, KERNEL, APPLICATION, DropOutput())
    assert await count(guest.agent) == 1
    ImageSnapshot(SHAPE, await guest.take_snapshot(), ((8080, False),)).publish()
    world.image = load_image_snapshot(directory)
    return world


async def test_a_microvm_is_launched_suspended_and_resumed(world: World) -> None:
    directory = world.directory("microvm")
    guest = await world.host.launch(world.image, directory, fresh_identity(), DropOutput())
    for expected in (2, 3, 4):
        assert await count(guest.agent) == expected
        assert not await guest.is_stalled()
        await guest.suspend()
        guest = await world.host.resume(world.image, load_suspended(directory), DropOutput())
    await guest.end()
    assert not any(vm.is_alive for vm in world.engine.vms)


async def test_a_checkpoint_is_taken_of_one_that_runs_and_of_one_that_is_suspended(world: World) -> None:
    directory, states = world.directory("microvm"), world.engine.states
    guest = await world.host.launch(world.image, directory, fresh_identity(), DropOutput())
    await count(guest.agent)
    draft = await guest.draft(world.home / "running")
    await guest.capture(draft)
    assert await count(guest.agent) == 3
    checkpoint.publish(states, await draft.store())
    await guest.suspend()
    suspended = load_suspended(directory)
    checkpoint.publish(states, checkpoint.copy_suspended(states, world.image, suspended, world.home / "suspended"))
    for name, expected in (("running", 3), ("suspended", 4)):
        clone = await world.host.launch(
            load_image_snapshot(world.home / name), world.directory(f"of {name}"), fresh_identity(), DropOutput()
        )
        assert await count(clone.agent) == expected
        await clone.end()


async def test_it_goes_back_to_a_checkpoint(world: World) -> None:
    directory = world.directory("microvm")
    guest = await world.host.launch(world.image, directory, fresh_identity(), DropOutput())
    await count(guest.agent)
    await guest.end()
    checkpoint.prepare_rollback(world.engine.states, world.image, directory)
    checkpoint.roll_back(directory)
    base = load_image_snapshot(directory / "base")
    guest = await world.host.resume(base, load_suspended(directory), DropOutput())
    assert await count(guest.agent) == 2
    await guest.end()


async def test_a_prepared_one_begins(world: World) -> None:
    guest = await world.host.prepare(world.image, world.directory("microvm"))
    await guest.begin(fresh_identity(), DropOutput(), None)
    assert await count(guest.agent) == 2
    await guest.end()


async def test_the_next_server_takes_it_over(world: World) -> None:
    directory = world.directory("microvm")
    left = await world.host.launch(world.image, directory, fresh_identity(), DropOutput())
    await count(left.agent)
    await left.leave()

    async def no_room() -> bool:
        raise AssertionError("this engine never stalls")

    class Process:
        async def kill_group(self) -> None:
            """It has ended with the guest."""

    survivor = Survivor(cast("AdoptedProcess", Process()), None, None)
    guest = await world.next_server().adopt(
        world.image, directory, survivor, DropOutput(), no_room, resumes=False
    )  # fmt: skip
    assert guest is not None
    assert await count(guest.agent) == 3
    await guest.end()


async def test_what_another_engine_has_saved_runs_on_that_one(world: World) -> None:
    """Of the two engines of one server each gets what it has saved; a guest that runs is found on it by the next."""
    other = FakeEngine(Engine("Other", "2.0", "systrap"))

    async def make_other(name: str) -> VmmDriver:
        assert name == "other"
        driver: VmmDriver = other
        return driver

    def server() -> GuestHost:
        own: VmmDriver = world.engine
        space = DiskSpace(world.home, 0)
        return GuestHost(own, cast("Connector", Wires()), None, None, space, make_other)

    host, directory = server(), world.directory("image of the other")
    root = directory / "root.erofs"
    root.write_bytes(b"root")
    guest = await host.boot(directory, root, SHAPE, KERNEL, APPLICATION, DropOutput(), engine="other")
    ImageSnapshot(SHAPE, await guest.take_snapshot()).publish()
    image = load_image_snapshot(directory)
    microvm = world.directory("microvm")
    guest = await host.launch(image, microvm, fresh_identity(), DropOutput())
    mine = await host.launch(world.image, world.directory("mine"), fresh_identity(), DropOutput())
    assert [vm.files.directory for vm in other.vms if vm.is_alive] == [microvm]
    await guest.suspend()
    assert load_suspended(microvm).engine == other.engine
    with pytest.raises(VmmError, match="EMBERBOX_ENGINE=other"):
        server().check_engine(image.engine)  # it has not made it
    guest = await host.resume(image, load_suspended(microvm), DropOutput())
    await guest.leave()
    following = server()
    await following.engines.ensure("other")

    async def no_room() -> bool:
        raise AssertionError("this engine never stalls")

    class Process:
        async def kill_group(self) -> None:
            """It has ended with the guest."""

    survivor = Survivor(cast("AdoptedProcess", Process()), None, None)
    adopted = await following.adopt(image, microvm, survivor, DropOutput(), no_room, resumes=False)
    assert adopted is not None
    assert adopted.engine == other.engine
    for each in (adopted, mine):
        await each.end()


async def test_an_engine_without_a_network_of_its_own_is_not_started_without_one(world: World) -> None:
    driver: VmmDriver = world.engine
    started = len(world.engine.vms)
    host = GuestHost(driver, Connector(None), None, None, DiskSpace(world.home, 0))
    with pytest.raises(HostError, match=r"Fake 1\.0 .* needs networks of the host's"):
        await host.launch(world.image, world.directory("microvm"), fresh_identity(), DropOutput())
    assert len(world.engine.vms) == started
