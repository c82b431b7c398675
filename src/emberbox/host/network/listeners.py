"""What this process answers at the addresses of slots, in place of the guests' networks: names, and some ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from emberbox.byte_streams import SocketStream, listen_with
from emberbox.host.names import NameListener, NameRelay, read_servers
from emberbox.host.network.commands import apply_rules
from emberbox.host.network.netns import NamespaceThread
from emberbox.host.network.slots import DNS_ADDRESS, DNS_PORT, METADATA_ADDRESS, METADATA_PORT, DeviceKind, Slot

Serve = Callable[[SocketStream], Awaitable[None]]
"""Answers a connection, and closes it."""

METADATA_CONNECTIONS_MAX = 32
"""Of one guest at a time, as over its agent's channel; more are closed."""


class SlotListeners:
    """The listeners of all slots.

    Args:
        thread: enters their namespaces.
        resolv_conf: the file that names the host's name servers.
    """

    def __init__(self, thread: NamespaceThread, resolv_conf: Path) -> None:
        self._thread = thread
        self._resolv_conf = resolv_conf
        self._names: dict[int, NameListener] = {}
        self._relays: dict[int, dict[int, asyncio.Server]] = {}
        self._relaying = defaultdict[int, asyncio.Lock](asyncio.Lock)
        self._metadata: dict[int, asyncio.Server] = {}
        self._metadata_handlers: dict[int, Serve] = {}

    async def answer(self, slot: Slot) -> None:
        """Answer what its guest asks there: names, and the metadata address where its agent does not.

        Raises:
            HostError: it cannot be listened there.
        """
        await self.answer_names(slot)
        if slot.kind is DeviceKind.PACKETS:
            await self.answer_metadata(slot)

    async def answer_names(self, slot: Slot) -> None:
        """Answer at the slot's name server; packets come there only while there is no direct one.

        Raises:
            HostError: it cannot be listened there.
        """
        relay = NameRelay(lambda: read_servers(self._resolv_conf))
        with contextlib.ExitStack() as opened:
            datagram = opened.enter_context(await self._thread.bind(slot, socket.SOCK_DGRAM, DNS_ADDRESS, DNS_PORT))
            stream = opened.enter_context(await self._thread.bind(slot, socket.SOCK_STREAM, DNS_ADDRESS, DNS_PORT))
            self._names[slot.number] = await NameListener.open(datagram, stream, relay)
            opened.pop_all()

    async def answer_metadata(self, slot: Slot) -> None:
        """Answer at the slot's metadata address, by whoever `serve_metadata` names.

        Raises:
            HostError: it cannot be listened there.
        """
        open_now = 0

        async def serve(stream: SocketStream) -> None:
            nonlocal open_now
            handler = self._metadata_handlers.get(slot.number)
            if handler is None or open_now >= METADATA_CONNECTIONS_MAX:
                stream.close()
                return
            open_now += 1
            try:
                await handler(stream)
            finally:
                open_now -= 1

        listener = await self._thread.bind(slot, socket.SOCK_STREAM, METADATA_ADDRESS, METADATA_PORT)
        self._metadata[slot.number] = await listen_with(listener, serve)

    def serve_metadata(self, slot: Slot, serve: Serve) -> None:
        """Let `serve` answer the connections to a slot's metadata address."""
        self._metadata_handlers[slot.number] = serve

    async def relay(self, slot: Slot, port: int, serve: Serve) -> None:
        """Let `serve` answer the connections to a port of a slot's address.

        Raises:
            HostError: it cannot be listened there.
        """
        async with self._relaying[slot.number]:  # the first requests to a port come together
            servers = self._relays.setdefault(slot.number, {})
            if port in servers:
                return
            listener = await self._thread.bind(slot, socket.SOCK_STREAM, slot.address, port)
            server = await listen_with(listener, serve)
            try:
                await apply_rules(f"add element ip emberbox relayed {{ {port} }}", slot.namespace)
            except BaseException:
                server.close()
                raise
            servers[port] = server

    def relayed(self, slot: Slot) -> Collection[int]:
        """Return the ports of a slot that are relayed."""
        return self._relays.get(slot.number, ())

    def end(self, number: int) -> None:
        """Answer no more at a slot."""
        if listener := self._names.pop(number, None):
            listener.close()
        self._metadata_handlers.pop(number, None)
        if server := self._metadata.pop(number, None):
            server.close()
        self._relaying.pop(number, None)
        for server in self._relays.pop(number, {}).values():
            server.close()

    def close(self) -> None:
        """Answer no more at any."""
        for number in {*self._names, *self._relays, *self._metadata}:
            self.end(number)
