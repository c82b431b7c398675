"""The ports of one guest: where each is open, and by which way it is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from emberbox.byte_streams import SocketStream, join
from emberbox.guest.agent import Agent
from emberbox.guest.protocol import Place
from emberbox.machine.connections import Connection
from emberbox.model.errors import GuestError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Capabilities, Vm

LOOK_TIMEOUT_S = limit_s(2.0)
CONNECT_TIMEOUT_S = limit_s(10.0)


def find_direct_place(capabilities: Capabilities, connection: Connection) -> Place | None:
    """Return at which address of a guest's a port is open that its network leads to; None where it leads to none."""
    if connection.slot_number is None and not capabilities.opens_ports:
        return None
    return Place.LOOPBACK if capabilities.leads_to_loopback else Place.OWN_ADDRESS


class GuestPorts:
    """What is known of a guest's ports.

    Args:
        known: from its snapshot: those where something listened, each with whether TLS was spoken there.
        vm: the guest's.
        connection: its network, whose relayed connections are carried by this object from now on.
        find_agent: returns the agent that is connected now.
        direct: where a port is open that the network leads to; None where it leads to none.
    """

    def __init__(
        self, known: Mapping[int, bool], vm: Vm, connection: Connection, find_agent: Callable[[], Agent],
        direct: Place | None = Place.LOOPBACK,
    ) -> None:  # fmt: skip
        self._known = dict(known)
        self._vm = vm
        self._connection = connection
        self._find_agent = find_agent
        self._leads_to = direct
        self._direct: dict[int, bool] = dict.fromkeys(known, True)
        self._looking = asyncio.Lock()
        connection.carry = self._carry

    def known(self) -> dict[int, bool]:
        """Return the ports where something listened when the snapshot was taken, each with whether it spoke TLS."""
        return dict(self._known)

    async def reach(self, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of the guest, whatever address it is open at."""
        if await self.is_direct(port):
            return await self._connection.reach(self._vm, port)
        return await self._connection.relay(port)

    async def is_direct(self, port: int) -> bool:
        """Say whether the network leads to where a port is open. What is open at another address needs the agent.

        Asked of the agent at the first use, and again while nothing listens.
        """
        if self._leads_to is None:
            return False
        if port not in self._direct:
            async with self._looking:  # one question is enough for all who wait
                return self._direct[port] if port in self._direct else await self._look(port)
        return self._direct[port]

    async def _look(self, port: int) -> bool:
        try:
            stream = await self._find_agent().open_stream(port, LOOK_TIMEOUT_S)
        except (ConnectionRefusedError, GuestError):
            return True
        stream.close()
        self._direct[port] = stream.place is self._leads_to
        return self._direct[port]

    def doubt(self, port: int) -> None:
        """Look anew for where a port is open: a connection to it has failed."""
        self._known.pop(port, None)
        self._direct.pop(port, None)

    async def _carry(self, port: int, client: SocketStream) -> None:
        """Carry a client's connection to a port of the guest by way of the agent."""
        try:
            stream = await self._find_agent().open_stream(port, CONNECT_TIMEOUT_S)
        except (ConnectionRefusedError, GuestError):
            client.close()
            return
        await join(client, stream)
