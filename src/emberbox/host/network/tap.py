"""The networks of a server's microVMs, each in a namespace of its own with a tap device; a pool makes them ahead."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from emberbox import process
from emberbox.background import in_thread
from emberbox.host.names import find_direct_server
from emberbox.host.network.commands import apply_rules, has_table, ip_batch, remove_namespace
from emberbox.host.network.flows import find_flows, open_tracking
from emberbox.host.network.listeners import Serve, SlotListeners
from emberbox.host.network.netns import (
    GUEST_END,
    NamespaceThread,
    make_tap,
    open_packets,
    open_tap,
    prepare_packets,
)
from emberbox.host.network.place import PlaceNote, leave_place, renew_place, take_place
from emberbox.host.network.resets import open_device, reset_flows
from emberbox.host.network.rules import render_namespace_rules
from emberbox.host.network.slots import (
    DNS_ADDRESS,
    GATEWAY_ADDRESS,
    GATEWAY_MAC,
    GUEST_ADDRESS,
    GUEST_MAC,
    METADATA_ADDRESS,
    NETNS_DIRECTORY,
    SLOTS_PER_INSTANCE,
    DeviceKind,
    Slot,
    existing_slots,
    plan_slot,
)
from emberbox.host.tcp import end_connections, find_connections
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)

REFILL_DELAY_S = 0.5
RESOLV_CONF_CHECK_S = 2.0


class TapNetwork:
    """Makes, hands out and removes slots. One object per server; needs root.

    Attributes:
        make_room: called when all slots are taken and one is wanted; may give one back.

    Args:
        network: the addresses to use, at least a /16.
        users: the host's users that may open connections to guests (the gateway's).
        note: remembers the place for the next server.
        resolv_conf: the file that names the host's name servers.
        kind: what the guests' ends of slots are, where nobody says.
        spare: how many slots are kept ready: of this kind, and of another from when it is first asked for.
    """

    def __init__(
        self, network: ipaddress.IPv4Network, users: tuple[int, ...], note: PlaceNote, resolv_conf: Path,
        kind: DeviceKind = DeviceKind.TAP, spare: int = 8,
    ) -> None:  # fmt: skip
        self._network = network
        self._users = users
        self._note = note
        self._kind = kind
        self._spare = spare
        self._free: dict[DeviceKind, list[Slot]] = {kind: []}
        self._resolv_conf = resolv_conf
        self._direct = find_direct_server(resolv_conf)
        self._thread = NamespaceThread()
        self._listeners = SlotListeners(self._thread, resolv_conf)
        self._instance = -1
        self._stale: list[Slot] = []
        self._kept: set[int] = set()
        # First out is what was given back longest ago: a connection that is still being tried, for a microVM that has
        # gone, must not reach another one at the same address.
        self._unused = deque(range(SLOTS_PER_INSTANCE))
        self._making = asyncio.Lock()
        self._refill: asyncio.Task[None] | None = None
        self.make_room: Callable[[], Awaitable[None]] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def instance(self) -> int:
        """Which of the machine's 64 places this server holds."""
        return self._instance

    @property
    def void(self) -> Path:
        """A namespace with no way out, in which VMM processes run: they reach the guest's network by the tap."""
        return NETNS_DIRECTORY / f"emberbox-{self._instance}-void"

    async def open(self, keep: Collection[int] = ()) -> None:
        """Take a place on this machine and make the first slots.

        Args:
            keep: numbers of slots that microVMs of an earlier, killed server still use; `adopt` returns them.

        Raises:
            HostError: the kernel or the privileges do not allow it.
        """
        earlier = self._note.read()
        if earlier is not None and await has_table(earlier):
            await self._take_over(earlier, keep)
        else:
            self._instance = await take_place(self._network, self._users)
            self._note.write(self._instance)
        try:
            if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0":
                log.info("turning on net.ipv4.ip_forward, so that guests reach the internet")
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            if not self.void.exists():
                await process.run(["ip", "netns", "add", self.void.name])
            self._free[self._kind].append(await self._make(self._kind))
        except BaseException:
            await self.close()
            raise
        self._start_refill()
        self._watch = asyncio.create_task(self._follow_resolv_conf())

    async def _take_over(self, instance: int, keep: Collection[int]) -> None:
        self._instance = instance
        await renew_place(instance, self._network, self._users)
        for slot in existing_slots(self._network, instance):
            self._unused.remove(slot.number)
            if slot.number in keep:
                self._kept.add(slot.number)
            else:
                self._stale.append(slot)

    async def adopt(self, number: int, kind: DeviceKind | None = None) -> Slot:
        """Return a slot that was kept at `open`, whose guest's end is of this kind.

        Raises:
            HostError: its namespace is gone.
        """
        self._kept.discard(number)
        slot = plan_slot(self._network, self._instance, number, kind or self._kind)
        if not slot.namespace_path.exists():
            raise HostError(f"the network {slot.namespace} of the microVM is gone")
        await ip_batch(slot.namespace, f"address replace {DNS_ADDRESS}/32 dev tap0")  # an older server made none
        await self._listeners.answer(slot)
        try:
            await _tell_name_server(slot, self._direct)
            await apply_rules("flush set ip emberbox relayed", slot.namespace)  # nobody listens there any more
        except HostError as error:
            log.warning("names in %s may not resolve before its microVM is resumed: %s", slot.namespace, error)
        return slot

    def keep(self, slot: Slot) -> None:
        """Let a slot outlive this server, for a microVM that does so: the next one adopts it."""
        self._kept.add(slot.number)

    async def take(self, kind: DeviceKind | None = None) -> Slot:
        """Return a slot that nobody uses.

        Args:
            kind: what the guest's end is to be.

        Raises:
            HostError: all are taken, or one cannot be made.
        """
        kind = kind or self._kind
        free = self._free.setdefault(kind, [])
        if not free and not self._unused:
            await self._free_a_number()
        slot = free.pop() if free else await self._make(kind)
        self._start_refill()
        return slot

    async def _free_a_number(self) -> None:
        """Give back a slot of another kind that is kept ready, or have one given back that is taken."""
        for ready in self._free.values():
            if ready:
                await self.give_back(ready.pop())
                return
        if self.make_room is not None:
            await self.make_room()

    async def restrict(self, slot: Slot, policy: EgressPolicy) -> None:
        """Let the guest of a slot reach what a policy says and nothing else, at once.

        Raises:
            HostError: the rules cannot be set; those from before still count.
        """
        renew = "table ip emberbox\ndelete table ip emberbox"
        relayed = self._listeners.relayed(slot)
        await apply_rules(
            f"{renew}\n{render_namespace_rules(self._direct, policy, relayed, slot.kind)}", slot.namespace
        )

    async def relay(self, slot: Slot, port: int, serve: Serve) -> None:
        """Let `serve` answer the connections to a port of a slot's address, in place of the guest's network.

        Raises:
            HostError: it cannot be listened there.
        """
        await self._listeners.relay(slot, port, serve)

    def serve_metadata(self, slot: Slot, serve: Serve) -> None:
        """Let `serve` answer what the guest asks at the metadata address; with tap devices its agent does that."""
        self._listeners.serve_metadata(slot, serve)

    async def open_to_builds(self, slot: Slot) -> None:
        """Give the namespace itself what RUN steps expect: a loopback of their own."""
        await ip_batch(slot.namespace, "link set lo up")

    async def give_back(self, slot: Slot) -> None:
        """Remove a slot. What the host's processes have open to it is reset: nothing else would tell them."""
        self._listeners.end(slot.number)
        try:
            end_connections(find_connections(slot.address))
        except HostError as error:
            log.warning("clients of a microVM that is gone may not notice: %s", error)
        await remove_namespace(slot)
        self._unused.append(slot.number)

    async def reset(self, slot: Slot) -> None:
        """Reset what the guest of a slot has open to elsewhere, on its side; see `resets`.

        Raises:
            HostError: it cannot be done, or the guest does not answer.
        """
        with socket.socket(fileno=await self._thread.open(slot, open_tracking)) as kernel:
            flows = await in_thread(find_flows, kernel)
        if not flows:
            return
        with socket.socket(fileno=await self._thread.open(slot, open_device)) as device:
            left = await in_thread(reset_flows, device, flows)
        if left:
            raise HostError(f"it does not answer on {left} of its {len(flows)} connections")

    async def open_tap(self, slot: Slot) -> int:
        """Return a new descriptor of the guest's end of a slot; the caller closes it."""
        return await self._thread.open(slot, open_tap if slot.kind is DeviceKind.TAP else open_packets)

    async def close(self) -> None:
        """Remove everything that was made; but nothing while microVMs that nobody has adopted use it."""
        for task in (self._refill, self._watch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, HostError):
                    await task
        self._listeners.close()
        self._thread.close()
        if self._kept:
            return
        for slot in existing_slots(self._network, self._instance):
            await remove_namespace(slot)
        await process.run(["ip", "netns", "delete", self.void.name], check=False)
        await leave_place(self._instance)
        self._note.forget()

    def _start_refill(self) -> None:
        if self._refill is None or self._refill.done():
            self._refill = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        try:
            await asyncio.sleep(REFILL_DELAY_S)  # not while the launch that took one is under way
            while self._stale:
                await self.give_back(self._stale.pop())
            for kind, ready in list(self._free.items()):
                while len(ready) < self._spare and self._unused:
                    ready.append(await self._make(kind))
        except HostError as error:
            log.warning("no further network could be made ahead: %s", error)

    async def _make(self, kind: DeviceKind) -> Slot:
        async with self._making:
            if not self._unused:
                raise HostError(f"all {SLOTS_PER_INSTANCE} networks for microVMs are taken")
            slot = plan_slot(self._network, self._instance, self._unused.popleft(), kind)
            try:
                await _build(slot, self._thread, self._direct)
                await self._listeners.answer(slot)
            except BaseException:
                self._listeners.end(slot.number)
                await remove_namespace(slot)
                self._unused.append(slot.number)
                raise
            return slot

    async def _follow_resolv_conf(self) -> None:
        """Take over another name server, such as one that DHCP brings, while microVMs run."""
        while True:
            await asyncio.sleep(RESOLV_CONF_CHECK_S)
            direct = find_direct_server(self._resolv_conf)
            if direct == self._direct:
                continue
            self._direct = direct
            log.info("guests ask %s for names now", direct or "this server")
            for slot in existing_slots(self._network, self._instance):
                with contextlib.suppress(HostError):  # it is just being made or removed
                    await _tell_name_server(slot, self._direct)


async def _build(slot: Slot, thread: NamespaceThread, direct: str | None) -> None:
    """Make a slot's namespace with its devices, addresses, routes and rules."""
    await process.run(["ip", "netns", "add", slot.namespace])
    await ip_batch(
        None,
        f"link add {slot.interface} type veth peer name up0 netns {slot.namespace}",
        f"address add {slot.host_address}/31 dev {slot.interface}",
        f"link set {slot.interface} up",
    )
    await _make_device(slot, thread)
    await ip_batch(
        slot.namespace,
        f"link set tap0 address {GATEWAY_MAC}",
        f"address add {GATEWAY_ADDRESS}/24 dev tap0",
        f"address add {DNS_ADDRESS}/32 dev tap0",
        f"address add {slot.address}/31 dev up0",
        "link set tap0 up",
        "link set up0 up",
        f"neighbour add {GUEST_ADDRESS} lladdr {GUEST_MAC} dev tap0 nud permanent",
        f"route add default via {slot.host_address}",
        f"route add 127.0.0.1/32 via {GUEST_ADDRESS} dev tap0",
    )
    await apply_rules(render_namespace_rules(direct, kind=slot.kind), slot.namespace)


async def _make_device(slot: Slot, thread: NamespaceThread) -> None:
    """Make tap0, which leads to the guest: a tap device, or one of a pair whose other one packet sockets are bound to.

    That other one has a hardware address that is not the guest's, so the host's own network takes nothing from it.
    """
    if slot.kind is DeviceKind.PACKETS:
        await ip_batch(
            slot.namespace,
            f"link add tap0 type veth peer name {GUEST_END}",
            f"link set {GUEST_END} arp off",
            f"link set {GUEST_END} up",
        )
        await ip_batch(slot.namespace, f"address add {METADATA_ADDRESS}/32 dev tap0")
    os.close(await thread.open(slot, make_tap if slot.kind is DeviceKind.TAP else prepare_packets))


async def _tell_name_server(slot: Slot, direct: str | None) -> None:
    new = f"add element ip emberbox host_names {{ 53 : {direct} }}" if direct else ""
    await apply_rules(f"flush map ip emberbox host_names\n{new}", slot.namespace)
