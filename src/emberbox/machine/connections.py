"""How microVMs are connected: one interface over tap networks and the VMM's own user network."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Protocol

from emberbox.host.network import Slot, TapNetwork
from emberbox.host.ports import free_port
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import HostError
from emberbox.vmm.base import Tap, UserNetwork, Vm

log = logging.getLogger(__name__)

DNS_ADDRESS = "10.0.2.3"
RESOLV_CONF = f"nameserver {DNS_ADDRESS}\n"


class Connection(Protocol):
    """The network of one microVM while it runs."""

    @property
    def slot_number(self) -> int | None:
        """Its place in the tap network; None in a user network."""
        ...

    def attach(self) -> contextlib.AbstractContextManager[Tap | UserNetwork]:
        """Give the VMM's end; used while the VMM is started."""
        ...

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of the guest."""
        ...

    async def restrict(self, policy: EgressPolicy) -> None:
        """Let the guest reach what a policy says and nothing else."""
        ...

    async def release(self) -> None:
        """Remove it."""
        ...


class TapConnection:
    """A slot of the tap network."""

    def __init__(self, network: TapNetwork, slot: Slot) -> None:
        self._network = network
        self._slot = slot

    @property
    def slot_number(self) -> int | None:
        """Its place in the tap network."""
        return self._slot.number

    @contextlib.contextmanager
    def attach(self) -> Iterator[Tap | UserNetwork]:
        """Open the tap device for as long as the block lasts."""
        tap = self._network.open_tap(self._slot)
        try:
            yield Tap(tap)
        finally:
            os.close(tap)

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:  # noqa: ARG002 - the interface's shape
        """Every port of the guest has the slot's address."""
        return self._slot.address, port

    async def restrict(self, policy: EgressPolicy) -> None:
        """Set the slot's rules."""
        await self._network.restrict(self._slot, policy)

    async def release(self) -> None:
        """Give the slot back."""
        await self._network.give_back(self._slot)


class UserConnection:
    """The VMM's user network; ports are forwarded when they are first asked for."""

    def __init__(self) -> None:
        self._forwarded: dict[int, int] = {}

    @property
    def slot_number(self) -> int | None:
        """It has none."""
        return None

    @contextlib.contextmanager
    def attach(self) -> Iterator[Tap | UserNetwork]:
        """Nothing needs to be open."""
        self._forwarded.clear()
        yield UserNetwork()

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:
        """Forward the port on the first call."""
        if port not in self._forwarded:
            host_port = free_port()
            self._forwarded[port] = host_port
            await vm.forward(host_port, port)
        return "127.0.0.1", self._forwarded[port]

    async def restrict(self, policy: EgressPolicy) -> None:  # noqa: ARG002 - the interface's shape
        """It is closed as it is: a connector can open nothing."""
        log.warning("a network connector has no effect: with user-mode networks a guest reaches nothing at all")

    async def release(self) -> None:
        """It ends with the VMM."""


class Connector:
    """Makes the networks of microVMs.

    Args:
        network: the tap network; None gives each VMM a user network.
    """

    def __init__(self, network: TapNetwork | None) -> None:
        self._network = network

    async def connect(self) -> Connection:
        """Return a connection for a new microVM.

        Raises:
            HostError: none can be made.
        """
        if self._network is None:
            return UserConnection()
        return TapConnection(self._network, await self._network.take())

    def adopt(self, slot_number: int | None) -> Connection:
        """Return the connection of a microVM that an earlier server started.

        Raises:
            HostError: it was connected in another way than this server connects microVMs, or its network is gone.
        """
        if self._network is None and slot_number is None:
            return UserConnection()
        if self._network is None or slot_number is None:
            raise HostError("the network of the microVM was made with another setting of EMBERBOX_NETWORK")
        return TapConnection(self._network, self._network.adopt(slot_number))
