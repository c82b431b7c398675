"""This machine: how its microVMs are connected, and what they run in."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from emberbox.host.network.commands import find_obstacle
from emberbox.host.network.place import PlaceNote
from emberbox.host.network.tap import TapNetwork
from emberbox.host.users import UserPool
from emberbox.machine.connections import Connector
from emberbox.machine.engines import count_saved
from emberbox.model.boundary import boundary_of
from emberbox.settings import Settings
from emberbox.vmm import engines
from emberbox.vmm.base import Cage, VmmDriver
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


async def choose_engine(settings: Settings) -> str:
    """Return the name of the engine that this server uses."""
    users = UserPool(settings.uid_base) if os.geteuid() == 0 else None
    cage = Cage(None if users is None else users.take(), None)
    return await engines.find_name(settings.engine, _request(settings, cage))


def _request(settings: Settings, cage: Cage) -> EngineRequest:
    return EngineRequest(settings.home, settings.runsc, settings.accelerator, cage, count_saved(settings.home))


async def start_network(
    settings: Settings, engine: str, slots: set[int], running: contextlib.AsyncExitStack
) -> Network:  # fmt: skip
    """Open the networks of microVMs, those of VMMs that still run among them.

    Args:
        settings: see there.
        engine: the name of the engine that is connected to them.
        slots: the numbers of the network slots that those use.
        running: closes the networks.
    """
    users = UserPool(settings.uid_base) if os.geteuid() == 0 else None
    problem = await find_obstacle() if settings.network == "auto" else None
    if settings.network == "user" or problem:
        log.info("microVMs are connected by user-mode networks%s", f": {problem}" if problem else "")
        return Network(Connector(None, settings.resolv_conf), None, users, None)
    kind = engines.ENGINES[engine].device
    tap = TapNetwork(settings.network_cidr, (os.geteuid(),), PlaceNote(settings.home), settings.resolv_conf, kind)
    await tap.open(slots)
    running.push_async_callback(tap.close)
    return Network(Connector(tap), tap, users, tap.void)


async def make_driver(settings: Settings, engine: str, network: Network) -> VmmDriver:
    """Make an engine and say what it is: QEMU is on KVM where that works, unless operator or home want otherwise."""
    uid = None if network.users is None else network.users.take()
    driver = await engines.ENGINES[engine].make(_request(settings, Cage(uid, network.void)))
    if network.users is not None and uid is not None:
        network.users.give_back(uid)
    log.info("guests run with %s; boundary: %s", driver.engine, boundary_of(driver.engine.accelerator))
    return driver
