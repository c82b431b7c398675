"""This machine: how its microVMs are connected, and what they run in."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emberbox.host.network.commands import find_obstacle
from emberbox.host.network.place import PlaceNote
from emberbox.host.network.slots import DeviceKind
from emberbox.host.network.tap import TapNetwork
from emberbox.host.space import DiskSpace
from emberbox.host.users import UserPool
from emberbox.machine.connections import Connector
from emberbox.machine.engines import count_saved, find_saved_names
from emberbox.machine.guests import GuestHost
from emberbox.model.boundary import boundary_of
from emberbox.model.errors import HostError
from emberbox.settings import Settings
from emberbox.vmm import engines
from emberbox.vmm.base import Cage, VmmDriver
from emberbox.vmm.engine import Engine
from emberbox.vmm.request import EngineRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Network:
    """How microVMs are connected.

    Args:
        connector: connects them.
        tap: their networks; None where they have user-mode networks.
        users: the user ids of VMMs; None where the server is not root.
        void: the network namespace of VMMs, where there is one.
    """

    connector: Connector
    tap: TapNetwork | None
    users: UserPool | None
    void: Path | None

    @property
    def kind(self) -> str:
        """What clients are told of it."""
        return "user" if self.tap is None else "tap"


async def start_guests(
    settings: Settings, slots: set[int], space: DiskSpace, running: contextlib.AsyncExitStack
) -> tuple[Network, GuestHost]:
    """Open the networks of microVMs and make the engines that the home needs.

    Args:
        settings: see there.
        slots: the numbers of the network slots that VMMs of an earlier server use, which still run.
        space: the room on the disk.
        running: closes the networks, and stops what is being made.

    Raises:
        HostError: the machine lacks something, or there is no engine.
    """
    problem = await _find_network_problem(settings)
    choice = await _choose_engine(settings, problem)
    network = await _start_network(settings, problem, choice.device, slots, running)
    return network, await start_engines(settings, choice, network, space, running)


async def _choose_engine(settings: Settings, network_problem: str) -> engines.Choice:
    """Return the engine that this server uses."""
    users = UserPool(settings.uid_base) if os.geteuid() == 0 else None
    cage = Cage(None if users is None else users.take(), None)
    return await engines.choose(settings.engine, _request(settings, cage), network_problem)


async def _find_network_problem(settings: Settings) -> str:
    """Say why guests have user-mode networks; empty where they have networks of the host's."""
    if settings.network == "user":
        return "EMBERBOX_NETWORK is user"
    return (await find_obstacle() or "") if settings.network == "auto" else ""


def _request(settings: Settings, cage: Cage) -> EngineRequest:
    return EngineRequest(
        settings.home,
        settings.runsc,
        settings.accelerator,
        cage,
        count_saved(settings.home),
        settings.arm64 == "emulate",
    )


async def _start_network(
    settings: Settings, problem: str, device: DeviceKind, slots: set[int], running: contextlib.AsyncExitStack
) -> Network:
    """Open the networks of microVMs, those of VMMs that still run among them.

    Args:
        settings: see there.
        problem: why they are user-mode networks; empty where they are the host's.
        device: what the server's own engine is connected by; networks of other kinds are made when they are asked for.
        slots: the numbers of the network slots that those use.
        running: closes the networks.
    """
    users = UserPool(settings.uid_base) if os.geteuid() == 0 else None
    if problem:
        log.info("microVMs are connected by user-mode networks: %s", problem)
        return Network(Connector(None, settings.resolv_conf), None, users, None)
    tap = TapNetwork(settings.network_cidr, (os.geteuid(),), PlaceNote(settings.home), settings.resolv_conf, device)
    await tap.open(slots)
    running.push_async_callback(tap.close)
    return Network(Connector(tap), tap, users, tap.void)


async def start_engines(
    settings: Settings, choice: engines.Choice, network: Network, space: DiskSpace, running: contextlib.AsyncExitStack
) -> GuestHost:
    """Make the server's own engine and say what it is, and those others that the home holds saved state of.

    QEMU is on KVM where that works, unless operator or home want otherwise. What the home holds of an engine that does
    not work here stays as it is, and cannot be launched or resumed.

    Args:
        settings: see there.
        choice: the server's own engine.
        network: how guests are connected.
        space: the room on the disk.
        running: stops what is being made.
    """
    with _cage(network) as cage:
        own = await choice.make(_request(settings, cage))
    log.info("guests run with %s; boundary: %s", own.engine, boundary_of(own.engine.accelerator))
    guests = GuestHost(
        own, network.connector, network.users, network.void, space, partial(_make_other, settings, network, own.engine)
    )
    running.push_async_callback(guests.engines.close)
    for name in sorted(find_saved_names(settings.home) - {own.engine.name}):
        try:
            await guests.engines.ensure(name)
        except HostError as error:
            log.warning("what this home holds of the engine %s cannot be launched or resumed: %s", name, error)
    return guests


async def _make_other(settings: Settings, network: Network, own: Engine, name: str) -> VmmDriver:
    with _cage(network) as cage:
        driver = await engines.make_other(name, _request(settings, cage), own)
    if network.tap is None and not driver.capabilities.user_network:
        raise HostError(f"the engine {name} needs networks of the host's, which only root can make (docs/network.md)")
    boundary = boundary_of(driver.engine.accelerator)
    log.info("guests that ask for the engine %s run with %s; boundary: %s", name, driver.engine, boundary)
    return driver


@contextlib.contextmanager
def _cage(network: Network) -> Iterator[Cage]:
    """Give what an engine is tried in: a cage like a microVM's, with a user that nobody else has."""
    if network.users is None:
        yield Cage(None, network.void)
        return
    uid = network.users.take()
    try:
        yield Cage(uid, network.void)
    finally:
        network.users.give_back(uid)
