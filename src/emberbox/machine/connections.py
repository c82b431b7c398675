"""How microVMs are connected: one interface over tap networks and the VMM's own user network.

A microVM that is suspended while clients are connected keeps its slot of the tap network, so that their connections go
on after the resume. The gateway's end of each is a socket of the host's, the guest's end is in its memory, and what is
sent meanwhile waits in the guest's network device, which the engine keeps open (`Vm.hold_network`):

    runs ──hold──► held ──connect──► runs again: the guest spares what the gateway has held
                    └──let_go──► the slot is given back, which resets what is connected to it
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from emberbox.byte_streams import SocketStream, listen_with
from emberbox.guest.protocol import SPARED_MAX, Spared
from emberbox.host.names import RESOLV_CONF, NameRelay, read_servers
from emberbox.host.network.rules import has_names
from emberbox.host.network.slots import DNS_ADDRESS, DeviceKind, Slot
from emberbox.host.network.tap import TapNetwork
from emberbox.host.tcp import HostConnection, end_connections, find_connections
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import HostError
from emberbox.vmm.base import HeldNetwork, Network, UserNetwork, Vm, Wire

log = logging.getLogger(__name__)

TAP = "tap0"
"""The guest's device in the namespace of its slot."""

GUEST_RESOLV_CONF = f"nameserver {DNS_ADDRESS}\n"

Carry = Callable[[int, SocketStream], Awaitable[None]]
"""Carries a connection to a port of the guest, in which the network has no part, and closes it."""


class Connection(Protocol):
    """The network of one microVM while it runs.

    Attributes:
        carry: of the guest that runs now; for the ports that `relay` has been called for.
    """

    carry: Carry

    @property
    def slot_number(self) -> int | None:
        """Its place in the tap network; None in a user network."""
        ...

    def attach(self) -> contextlib.AbstractAsyncContextManager[Network]:
        """Give the VMM's end; used while the VMM is started."""
        ...

    @property
    def names(self) -> NameRelay | None:
        """Answers what the guest asks its name server, where its network does not."""
        ...

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of the guest that is open on its 127.0.0.1."""
        ...

    async def relay(self, port: int) -> tuple[str, int]:
        """Return the same for a port that is open elsewhere in the guest."""
        ...

    def serve_metadata(self, serve: Callable[[SocketStream], Awaitable[None]]) -> None:
        """Let `serve` answer the guest's metadata address, where the network does that and not the agent."""
        ...

    async def restrict(self, policy: EgressPolicy) -> None:
        """Let the guest reach what a policy says and nothing else."""
        ...

    async def cut(self) -> None:
        """Reset the guest's connections to elsewhere, on both sides, while its application stands still."""
        ...

    def hold(self, vm: Vm) -> None:
        """Keep it over the end of a VMM that is paused, where clients are connected: `release` then does nothing."""
        ...

    def spared(self) -> Spared | None:
        """Return the connections from before a suspend that go on now; None where none can."""
        ...

    def keep(self) -> None:
        """Let it outlive this server, together with its microVM."""
        ...

    async def release(self) -> None:
        """Remove it, and reset what the gateway still has open to it."""
        ...


async def nobody_carries(_port: int, client: SocketStream) -> None:
    """Close a connection: there is no guest yet."""
    client.close()


class TapConnection:
    """A slot of the tap network.

    Args:
        network: whose slot it is.
        slot: it.
        held: the connections that outlive their VMMs, by the microVM's id.
        microvm_id: whose it is.
        goes_on: whether the guest may know connections from before.
    """

    def __init__(
        self, network: TapNetwork, slot: Slot, held: dict[str, TapConnection], microvm_id: str, *, goes_on: bool
    ) -> None:
        self._network = network
        self._slot = slot
        self._held = held
        self._microvm_id = microvm_id
        self._goes_on = goes_on
        self._device: HeldNetwork | None = None
        self.carry: Carry = nobody_carries

    @property
    def slot_number(self) -> int | None:
        """Its place in the tap network."""
        return self._slot.number

    @contextlib.asynccontextmanager
    async def attach(self) -> AsyncIterator[Network]:
        """Describe the slot; a device that was held, which may have packets, is let go after the block."""
        held, self._device = self._device, None
        try:
            namespace = self._slot.namespace_path
            yield Wire(namespace, TAP, lambda: self._network.open_tap(self._slot), held)
        finally:
            if held is not None:
                held.close()

    @property
    def names(self) -> NameRelay | None:
        """The network has a name server."""
        return None

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:  # noqa: ARG002 - the interface's shape
        """Every port of the guest has the slot's address."""
        return self._slot.address, port

    async def relay(self, port: int) -> tuple[str, int]:
        """Listen at the same address, which the guest's network then leaves alone."""
        await self._network.relay(self._slot, port, lambda client: self.carry(port, client))
        return self._slot.address, port

    def serve_metadata(self, serve: Callable[[SocketStream], Awaitable[None]]) -> None:
        """Answer in the slot's namespace."""
        self._network.serve_metadata(self._slot, serve)

    async def restrict(self, policy: EgressPolicy) -> None:
        """Set the slot's rules."""
        await self._network.restrict(self._slot, policy)

    async def cut(self) -> None:
        """End the host's sockets, which tells both sides, and then what the guest still has."""
        try:
            end_connections(find_connections(self._slot.address))
        except HostError as error:
            log.warning("clients of %s are not reset before it is saved: %s", self._microvm_id, error)
        try:
            await self._network.reset(self._slot)
        except HostError as error:
            log.warning("connections of %s are not reset before it is saved: %s", self._microvm_id, error)

    def hold(self, vm: Vm) -> None:
        """Have the VMM's device kept open."""
        try:
            if not self._from_gateway():
                return
            self._device = vm.hold_network()
        except (HostError, OSError) as error:
            log.warning("the streams of %s end with its suspend: %s", self._microvm_id, error)
            return
        self._goes_on = True
        self._held[self._microvm_id] = self

    def spared(self) -> Spared | None:
        """Those that the gateway has now. So many that the guest cannot be told of them are reset."""
        if not self._goes_on:
            return None
        try:
            found = self._from_gateway()
            if len(found) > SPARED_MAX:
                end_connections(found)
                return None
        except HostError as error:
            log.warning("the streams of %s end with its resume: %s", self._microvm_id, error)
            return None
        return Spared(self._slot.host_address, tuple((one.source_port, one.port) for one in found))

    def has_undelivered(self) -> bool:
        """Say whether the gateway has sent something that the guest has not received yet."""
        with contextlib.suppress(HostError):
            return any(one.undelivered for one in self._from_gateway())
        return False

    def _from_gateway(self) -> list[HostConnection]:
        return [one for one in find_connections(self._slot.address) if one.source == self._slot.host_address]

    def keep(self) -> None:
        """Keep the slot when the network is closed."""
        self._network.keep(self._slot)

    async def release(self) -> None:
        """Give the slot back, unless it is held."""
        if self._microvm_id in self._held:
            return
        if self._device is not None:
            self._device.close()
            self._device = None
        await self._network.give_back(self._slot)


class UserConnection:
    """The VMM's user network.

    Args:
        resolv_conf: the file that names the host's name servers.
    """

    def __init__(self, resolv_conf: Path = RESOLV_CONF) -> None:
        self._resolv_conf = resolv_conf
        self._policy: EgressPolicy | None = None
        self._names = NameRelay(self._name_servers)
        self._relayed: dict[int, tuple[int, asyncio.Server]] = {}
        self._relaying = asyncio.Lock()
        self.carry: Carry = nobody_carries

    @property
    def slot_number(self) -> int | None:
        """It has none."""
        return None

    @contextlib.asynccontextmanager
    async def attach(self) -> AsyncIterator[Network]:
        """The VMM makes it."""
        yield UserNetwork()

    @property
    def names(self) -> NameRelay | None:
        """Names are the one thing from outside that a guest gets."""
        return self._names

    def _name_servers(self) -> tuple[str, ...]:
        if not has_names(self._policy):
            return ()
        own = self._policy.resolver if self._policy else None
        return (own,) if own else read_servers(self._resolv_conf)

    async def reach(self, vm: Vm, port: int) -> tuple[str, int]:
        """The VMM opens a way."""
        return await vm.reach(port)

    async def relay(self, port: int) -> tuple[str, int]:
        """Listen at a free port of the host's loopback."""
        async with self._relaying:  # the first requests come together, and one listener is enough for all
            if port not in self._relayed:
                listener = socket.create_server(("127.0.0.1", 0))
                server = await listen_with(listener, lambda client: self.carry(port, client))
                self._relayed[port] = (listener.getsockname()[1], server)
        return "127.0.0.1", self._relayed[port][0]

    def serve_metadata(self, serve: Callable[[SocketStream], Awaitable[None]]) -> None:
        """The agent carries it."""

    async def restrict(self, policy: EgressPolicy) -> None:
        """It is closed as it is: a connector can open nothing, and only names are held against it."""
        self._policy = policy
        log.warning("a network connector has no effect: with user-mode networks a guest reaches nothing at all")

    async def cut(self) -> None:
        """They are the VMM's own."""

    def hold(self, vm: Vm) -> None:
        """It ends with the VMM, and so do all connections."""

    def spared(self) -> Spared | None:
        """None."""
        return None

    def keep(self) -> None:
        """It is the VMM's own."""

    async def release(self) -> None:
        """What the VMM forwards ends with it."""
        for _, server in self._relayed.values():
            server.close()


class Connector:
    """Makes the networks of microVMs, and keeps those that are held.

    Args:
        network: the tap network; None gives each VMM a user network.
        resolv_conf: the file that names the host's name servers.
    """

    def __init__(self, network: TapNetwork | None, resolv_conf: Path = RESOLV_CONF) -> None:
        self._network = network
        self._resolv_conf = resolv_conf
        self._held: dict[str, TapConnection] = {}
        if network is not None:
            network.make_room = self._make_room

    async def connect(self, microvm_id: str, device: DeviceKind = DeviceKind.TAP) -> Connection:
        """Return a microVM's connection: the one that was held for it, or a new one.

        Args:
            microvm_id: whose it is.
            device: what its engine wants of a network of the host's.

        Raises:
            HostError: none can be made.
        """
        if self._network is None:
            return UserConnection(self._resolv_conf)
        held = self._held.pop(microvm_id, None)
        if held is not None:
            return held
        return TapConnection(self._network, await self._network.take(device), self._held, microvm_id, goes_on=False)

    async def adopt(self, microvm_id: str, slot_number: int | None, device: DeviceKind = DeviceKind.TAP) -> Connection:
        """Return the connection of a microVM that an earlier server started.

        Raises:
            HostError: it was connected in another way than this server connects microVMs, or its network is gone.
        """
        if self._network is None and slot_number is None:
            return UserConnection(self._resolv_conf)
        if self._network is None or slot_number is None:
            raise HostError("the network of the microVM was made with another setting of EMBERBOX_NETWORK")
        slot = await self._network.adopt(slot_number, device)
        return TapConnection(self._network, slot, self._held, microvm_id, goes_on=True)

    def has_undelivered(self, microvm_id: str) -> bool:
        """Say whether a client has sent something to a suspended microVM on a connection that is held."""
        held = self._held.get(microvm_id)
        return held is not None and held.has_undelivered()

    async def let_go(self, microvm_id: str) -> None:
        """Reset the connections that are held for a microVM, on the gateway's side; repeats are harmless."""
        held = self._held.pop(microvm_id, None)
        if held is not None:
            await held.release()

    async def _make_room(self) -> None:
        """All slots are taken: microVMs that run come before those that have been suspended for longest."""
        if self._held:
            microvm_id = next(iter(self._held))
            log.warning("the streams of %s are reset: its network is needed for another microVM", microvm_id)
            await self.let_go(microvm_id)
