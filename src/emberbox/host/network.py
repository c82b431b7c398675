"""The network of one microVM: a namespace of its own with a tap device, and policy by nftables.

Every clone of a snapshot has the same address inside, so each needs a namespace of its own. Making one takes some
30 ms, so a pool makes them ahead. The way in:

    gateway on the host ──► 10.213.x.y (veth) ──► DNAT to 127.0.0.1 ──► tap ──► the guest's loopback

The guest accepts packets for 127.0.0.1 from its network device (route_localnet), so that servers which listen on
loopback alone are reached, as on AWS. The way out is NAT twice; the host itself, other microVMs, link-local and
private networks are refused. Only root and the server's own user on the host may open connections to a guest:
everyone else must come through the gateway and its tokens.

The guest's name server, 10.0.2.3, is an address of the namespace. What is sent there goes on to the host's name server
by NAT, without this process; where packets cannot reach that one, this process answers instead (names.py). A map in
the rules says which of the two, so that another resolv.conf counts at once.

`docs/network.md` has the whole picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import logging
import os
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from emberbox import process
from emberbox.byte_streams import SocketStream, listen_with
from emberbox.host.names import NameListener, NameRelay, find_direct_server, read_servers
from emberbox.host.tcp import end_connections, find_connections
from emberbox.model.egress import EgressPolicy, EgressRule
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)

GUEST_ADDRESS = "10.0.2.15"
GUEST_MAC = "02:eb:00:00:00:01"
GATEWAY_ADDRESS = "10.0.2.2"
GATEWAY_MAC = "02:eb:00:00:00:02"
DNS_ADDRESS = "10.0.2.3"
DNS_PORT = 53

SLOTS_PER_INSTANCE = 512
REFILL_DELAY_S = 0.5
RESOLV_CONF_CHECK_S = 2.0
INSTANCES = 64
QUERIES_PER_S = 500
FLOWS_PER_S, FLOWS_MAX = 500, 16_384
"""What one guest may have of the host's connection tracking, which all share; to count flows takes time for each."""

REFUSED_NETWORKS = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, "
    "192.0.0.0/24, 192.0.2.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4"
)

NEVER_ALLOWED = "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 240.0.0.0/4"
_REFUSE = "reject with icmp type admin-prohibited"
_NAMES = f"ip daddr {DNS_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53"

_NETNS_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slot:
    """One network, free or taken by a microVM.

    Args:
        number: its place in this instance, 0 to 511.
        namespace: the name of its network namespace.
        interface: the host's end of the veth pair.
        host_address: the host's address on it.
        address: the address at which the gateway reaches the guest, every port alike.
    """

    number: int
    namespace: str
    interface: str
    host_address: str
    address: str


def plan_slot(network: ipaddress.IPv4Network, instance: int, number: int) -> Slot:
    """Return the names and addresses of a slot: /31 pairs, 512 to an instance."""
    offset = (instance * SLOTS_PER_INSTANCE + number) * 2
    return Slot(
        number=number,
        namespace=f"emberbox-{instance}-{number}",
        interface=f"eb{instance}-{number}",
        host_address=str(network[offset]),
        address=str(network[offset + 1]),
    )


def render_namespace_rules(
    direct: str | None, policy: EgressPolicy | None = None, relayed: Collection[int] = ()
) -> str:  # fmt: skip
    """Return the nftables rules inside a slot's namespace.

    Args:
        direct: the host's name server, if packets reach it; else this process answers at 10.0.2.3.
        policy: where the guest's packets may go; None lets them to public addresses.
        relayed: ports of the guest that this process listens for, at the slot's address.

    Only the packets of connections that the guest began are held against the policy, each of them, so that another
    policy counts at once and what comes in through the gateway is not touched.
    """
    names_nat = names_pass = ""
    if has_names(policy):
        server = policy.resolver if policy else None
        names_nat = f"{_NAMES} dnat to {server or 'th dport map @host_names'}"
        names_pass = f"ct original ip daddr {DNS_ADDRESS} ct status dnat accept"
    answers_here = has_names(policy) and not (policy and policy.resolver)
    return f"""
table ip emberbox {{
  map host_names {{
    type inet_service : ipv4_addr
    {f"elements = {{ 53 : {direct} }}" if direct else ""}
  }}
  set relayed {{
    type inet_service
    {f"elements = {{ {', '.join(map(str, relayed))} }}" if relayed else ""}
  }}
  chain flood {{
    type filter hook prerouting priority raw
    iifname "tap0" {_NAMES} limit rate over {QUERIES_PER_S}/second burst {2 * QUERIES_PER_S} packets drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname "up0" tcp dport @relayed accept
    iifname "up0" meta l4proto {{ tcp, udp }} dnat to 127.0.0.1
    iifname "tap0" jump names
  }}
  chain local {{
    type nat hook output priority -100
    jump names
  }}
  chain names {{
    {names_nat}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname "up0" masquerade
  }}
  chain allowed {{
    {_render_allowed(policy)}
  }}
  chain egress {{
    {names_pass}
    {_render_egress(policy)}
  }}
  chain input {{
    type filter hook input priority filter; policy drop
    iifname {{ "up0", "lo" }} ct state established,related accept
    iifname "up0" tcp dport @relayed accept
    {f"{_NAMES} accept" if answers_here else ""}
    ip daddr {DNS_ADDRESS} meta l4proto tcp reject with tcp reset
    ip daddr {DNS_ADDRESS} reject
    iifname "lo" accept
    iifname "tap0" ip daddr {GATEWAY_ADDRESS} icmp type echo-request accept
  }}
  chain output {{
    type filter hook output priority filter
    oifname "tap0" ip protocol icmp accept
    ct direction reply accept
    oifname "lo" accept
    jump egress
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    iifname "up0" ct state established,related accept
    iifname "up0" oifname "tap0" ct status dnat accept
    iifname "tap0" ct direction reply accept
    iifname "tap0" ip saddr != {GUEST_ADDRESS} drop
    iifname "tap0" ct state new limit rate over {FLOWS_PER_S}/second burst {2 * FLOWS_PER_S} packets drop
    iifname "tap0" ct state new ct count over {FLOWS_MAX} {_REFUSE}
    iifname "tap0" oifname "up0" jump egress
  }}
}}
"""


def has_names(policy: EgressPolicy | None) -> bool:
    """Say whether the guests and builds with a policy have a name server."""
    return policy is None or policy.resolver is not None or policy.internet


def _render_egress(policy: EgressPolicy | None) -> str:
    """Return the rules for packets that go out, after the one for the name server."""
    if policy is None:
        return f"ip daddr {{ {REFUSED_NETWORKS} }} {_REFUSE}\n    accept"
    lines = [f"ip daddr {{ {NEVER_ALLOWED} }} {_REFUSE}"]
    if policy.networks:
        lines.append(f"ip daddr {{ {', '.join(policy.networks)} }} jump allowed")
    if policy.internet:
        lines.append(f"ip daddr != {{ {REFUSED_NETWORKS} }} jump allowed")
    return "\n    ".join([*lines, _REFUSE])


def _render_allowed(policy: EgressPolicy | None) -> str:
    """Return the rules for destinations in a policy's networks."""
    if policy is None or policy.rules is None:
        return "accept"
    return "\n    ".join(map(_render_rule, policy.rules))


def _render_rule(rule: EgressRule) -> str:
    match rule.protocol, rule.ports:
        case "all", _:
            return f"ip daddr {rule.cidr} accept"
        case protocol, None:
            return f"ip daddr {rule.cidr} ip protocol {protocol} accept"
        case protocol, (first, last):
            return f"ip daddr {rule.cidr} {protocol} dport {first}-{last} accept"
    raise AssertionError(rule)


def render_host_rules(instance: int, network: ipaddress.IPv4Network, users: tuple[int, ...]) -> str:
    """Return the nftables rules on the host for all slots of an instance."""
    first = plan_slot(network, instance, 0).host_address
    last = plan_slot(network, instance, SLOTS_PER_INSTANCE - 1).address
    return f"""
table inet {_table(instance)} {{
  chain input {{
    type filter hook input priority filter - 5
    iifname "eb{instance}-*" ct state established,related accept
    iifname "eb{instance}-*" drop
  }}
  chain output {{
    type filter hook output priority filter - 5
    oifname "eb{instance}-*" meta skuid != {{ {", ".join(map(str, users))} }} ct state new reject with tcp reset
  }}
  chain forward {{
    type filter hook forward priority filter - 5
    oifname "eb{instance}-*" ct state new drop
    iifname "eb{instance}-*" oifname "eb*" drop
    iifname "eb{instance}-*" fib daddr type local drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {first}-{last} oifname != "eb*" masquerade
  }}
}}
"""


def _table(instance: int) -> str:
    return f"emberbox_{instance}"


class PlaceNote:
    """The note in a home of the place that its server holds, for the next one to go on with it.

    It also names the home itself: in a copy of a home the note means another server's place, and does not count.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "runtime" / "network-instance"
        status = home.stat()
        self._owner = f"{status.st_dev}:{status.st_ino}"

    def read(self) -> int | None:
        """Return the place that is noted."""
        try:
            instance, owner = self._path.read_text().split()
            return int(instance) if owner == self._owner else None
        except (OSError, ValueError):
            return None

    def write(self, instance: int) -> None:
        """Note a place."""
        self._path.write_text(f"{instance} {self._owner}\n")

    def forget(self) -> None:
        """Drop the note."""
        self._path.unlink(missing_ok=True)


class TapNetwork:
    """Makes, hands out and removes slots. One object per server; needs root.

    Attributes:
        make_room: called when all slots are taken and one is wanted; may give one back.

    Args:
        network: the addresses to use, at least a /16.
        users: the host's users that may open connections to guests (the gateway's).
        note: remembers the place for the next server.
        resolv_conf: the file that names the host's name servers.
        spare: how many slots are kept ready.
    """

    def __init__(
        self, network: ipaddress.IPv4Network, users: tuple[int, ...], note: PlaceNote, resolv_conf: Path, spare: int = 8
    ) -> None:  # fmt: skip
        self._network = network
        self._users = users
        self._note = note
        self._spare = spare
        self._resolv_conf = resolv_conf
        self._direct = find_direct_server(resolv_conf)
        self._listeners: dict[int, NameListener] = {}
        self._relayed: dict[int, dict[int, asyncio.Server]] = {}
        self._instance = -1
        self._free: list[Slot] = []
        self._stale: list[Slot] = []
        self._kept: set[int] = set()
        # First out is what was given back longest ago: a connection that is still being tried, for a microVM that has
        # gone, must not reach another one at the same address.
        self._unused = deque(range(SLOTS_PER_INSTANCE))
        self._threads = ThreadPoolExecutor(1, "netns")
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
        return _NETNS_DIRECTORY / f"emberbox-{self._instance}-void"

    def namespace_path(self, slot: Slot) -> Path:
        """Return the path of a slot's namespace."""
        return _NETNS_DIRECTORY / slot.namespace

    async def open(self, keep: Collection[int] = ()) -> None:
        """Take a place on this machine and make the first slots.

        Args:
            keep: numbers of slots that microVMs of an earlier, killed server still use; `adopt` returns them.

        Raises:
            HostError: the kernel or the privileges do not allow it.
        """
        earlier = self._note.read()
        if earlier is not None and await _has_table(earlier):
            await self._take_over(earlier, keep)
        else:
            self._instance = await self._take_instance()
            self._note.write(self._instance)
        try:
            if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0":
                log.info("turning on net.ipv4.ip_forward, so that guests reach the internet")
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            if not self.void.exists():
                await process.run(["ip", "netns", "add", self.void.name])
            self._free.append(await self._make())
        except BaseException:
            await self.close()
            raise
        self._start_refill()
        self._watch = asyncio.create_task(self._follow_resolv_conf())

    async def _take_over(self, instance: int, keep: Collection[int]) -> None:
        """Go on with an earlier server's place: its rules are replaced at once, so nothing passes in between."""
        self._instance = instance
        rules = render_host_rules(instance, self._network, self._users)
        await _apply_rules(f"delete table inet {_table(instance)}\n{rules}")
        for slot in _existing_slots(self._network, instance):
            self._unused.remove(slot.number)
            if slot.number in keep:
                self._kept.add(slot.number)
            else:
                self._stale.append(slot)

    async def _take_instance(self) -> int:
        """Making the table is what reserves the place: nftables refuses a second one of the same name."""
        for instance in range(INSTANCES):
            try:
                await process.run(["nft", "create", "table", "inet", _table(instance)])
            except process.CommandError as error:
                if error.returncode == 1 and "File exists" in str(error):
                    continue
                raise HostError(f"networks for microVMs cannot be made: {error}") from error
            await _apply_rules(render_host_rules(instance, self._network, self._users))
            return instance
        raise HostError(f"{INSTANCES} Emberbox servers hold networks on this machine already")

    async def adopt(self, number: int) -> Slot:
        """Return a slot that was kept at `open`.

        Raises:
            HostError: its namespace is gone.
        """
        self._kept.discard(number)
        slot = plan_slot(self._network, self._instance, number)
        if not self.namespace_path(slot).exists():
            raise HostError(f"the network {slot.namespace} of the microVM is gone")
        await _ip_batch(slot.namespace, f"address replace {DNS_ADDRESS}/32 dev tap0")  # an older server made none
        await self._listen(slot)
        try:
            await self._tell_name_server(slot)
            await _apply_rules("flush set ip emberbox relayed", slot.namespace)  # nobody listens there any more
        except HostError as error:
            log.warning("names in %s may not resolve before its microVM is resumed: %s", slot.namespace, error)
        return slot

    def keep(self, slot: Slot) -> None:
        """Let a slot outlive this server, for a microVM that does so: the next one adopts it."""
        self._kept.add(slot.number)

    async def take(self) -> Slot:
        """Return a slot that nobody uses.

        Raises:
            HostError: all are taken, or one cannot be made.
        """
        if not self._free and not self._unused and self.make_room is not None:
            await self.make_room()
        slot = self._free.pop() if self._free else await self._make()
        self._start_refill()
        return slot

    async def restrict(self, slot: Slot, policy: EgressPolicy) -> None:
        """Let the guest of a slot reach what a policy says and nothing else, at once.

        Raises:
            HostError: the rules cannot be set; those from before still count.
        """
        renew = "table ip emberbox\ndelete table ip emberbox"
        relayed = self._relayed.get(slot.number, ())
        await _apply_rules(f"{renew}\n{render_namespace_rules(self._direct, policy, relayed)}", slot.namespace)

    async def relay(self, slot: Slot, port: int, serve: Callable[[SocketStream], Awaitable[None]]) -> None:
        """Let `serve` answer the connections to a port of a slot's address, in place of the guest's network.

        Raises:
            HostError: it cannot be listened there.
        """
        servers = self._relayed.setdefault(slot.number, {})
        if port in servers:
            return
        listener = await self._bind(slot, socket.SOCK_STREAM, slot.address, port)
        servers[port] = await listen_with(listener, serve)
        await _apply_rules(f"add element ip emberbox relayed {{ {port} }}", slot.namespace)

    async def open_to_builds(self, slot: Slot) -> None:
        """Give the namespace itself what RUN steps expect: a loopback of their own."""
        await _ip_batch(slot.namespace, "link set lo up")

    async def give_back(self, slot: Slot) -> None:
        """Remove a slot. What the host's processes have open to it is reset: nothing else would tell them."""
        self._fall_silent(slot.number)
        try:
            end_connections(find_connections(slot.address))
        except HostError as error:
            log.warning("clients of a microVM that is gone may not notice: %s", error)
        await _remove_namespace(slot)
        self._unused.append(slot.number)

    async def open_tap(self, slot: Slot) -> int:
        """Return a new descriptor of the slot's tap device; the caller closes it."""
        return await self._open_inside(slot, _open_tap)

    async def _open_inside(self, slot: Slot, work: Callable[[], int]) -> int:
        """Open a device in a slot's namespace; a descriptor that nobody waits for any more is closed."""
        opening = asyncio.get_running_loop().run_in_executor(self._threads, _in_namespace, slot.namespace, work)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise

    async def close(self) -> None:
        """Remove everything that was made; but nothing while microVMs that nobody has adopted use it."""
        for task in (self._refill, self._watch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, HostError):
                    await task
        for number in {*self._listeners, *self._relayed}:
            self._fall_silent(number)
        self._threads.shutdown()
        if self._kept:
            return
        for slot in _existing_slots(self._network, self._instance):
            await _remove_namespace(slot)
        await process.run(["ip", "netns", "delete", self.void.name], check=False)
        await process.run(["nft", "delete", "table", "inet", _table(self._instance)], check=False)
        self._note.forget()

    def _start_refill(self) -> None:
        if self._refill is None or self._refill.done():
            self._refill = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        try:
            await asyncio.sleep(REFILL_DELAY_S)  # not while the launch that took one is under way
            while self._stale:
                await self.give_back(self._stale.pop())
            while len(self._free) < self._spare and self._unused:
                self._free.append(await self._make())
        except HostError as error:
            log.warning("no further network could be made ahead: %s", error)

    async def _make(self) -> Slot:
        async with self._making:
            if not self._unused:
                raise HostError(f"all {SLOTS_PER_INSTANCE} networks for microVMs are taken")
            slot = plan_slot(self._network, self._instance, self._unused.popleft())
            try:
                await self._build(slot)
            except BaseException:
                self._fall_silent(slot.number)
                await _remove_namespace(slot)
                self._unused.append(slot.number)
                raise
            return slot

    async def _build(self, slot: Slot) -> None:
        await process.run(["ip", "netns", "add", slot.namespace])
        await _ip_batch(
            None,
            f"link add {slot.interface} type veth peer name up0 netns {slot.namespace}",
            f"address add {slot.host_address}/31 dev {slot.interface}",
            f"link set {slot.interface} up",
        )
        tap = await self._open_inside(slot, _make_tap)
        os.close(tap)
        await _ip_batch(
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
        await _apply_rules(render_namespace_rules(self._direct), slot.namespace)
        await self._listen(slot)

    # --- names

    async def _listen(self, slot: Slot) -> None:
        """Answer at the slot's name server; packets come there only while there is no direct one."""
        relay = NameRelay(lambda: read_servers(self._resolv_conf))
        with contextlib.ExitStack() as opened:
            datagram = opened.enter_context(await self._bind(slot, socket.SOCK_DGRAM, DNS_ADDRESS, DNS_PORT))
            stream = opened.enter_context(await self._bind(slot, socket.SOCK_STREAM, DNS_ADDRESS, DNS_PORT))
            self._listeners[slot.number] = await NameListener.open(datagram, stream, relay)
            opened.pop_all()

    async def _bind(self, slot: Slot, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        """Return a socket that is bound in a slot's namespace."""
        return socket.socket(fileno=await self._open_inside(slot, lambda: _bound(kind, address, port).detach()))

    def _fall_silent(self, number: int) -> None:
        if listener := self._listeners.pop(number, None):
            listener.close()
        for server in self._relayed.pop(number, {}).values():
            server.close()

    async def _follow_resolv_conf(self) -> None:
        """Take over another name server, such as one that DHCP brings, while microVMs run."""
        while True:
            await asyncio.sleep(RESOLV_CONF_CHECK_S)
            direct = find_direct_server(self._resolv_conf)
            if direct == self._direct:
                continue
            self._direct = direct
            log.info("guests ask %s for names now", direct or "this server")
            for slot in _existing_slots(self._network, self._instance):
                with contextlib.suppress(HostError):  # it is just being made or removed
                    await self._tell_name_server(slot)

    async def _tell_name_server(self, slot: Slot) -> None:
        new = f"add element ip emberbox host_names {{ 53 : {self._direct} }}" if self._direct else ""
        await _apply_rules(f"flush map ip emberbox host_names\n{new}", slot.namespace)


def _close_unused(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


def _in_namespace(namespace: str, work: Callable[[], T]) -> T:
    """Run `work` in a network namespace: setns(2) moves only the calling thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(_NETNS_DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise HostError(f"the namespace {namespace} cannot be entered: {os.strerror(ctypes.get_errno())}")
        try:
            return work()
        finally:
            libc.setns(home, _CLONE_NEWNET)
    finally:
        os.close(there)
        os.close(home)


def _bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address of the thread's network namespace."""
    bound = socket.socket(socket.AF_INET, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise HostError(f"{address}:{port} of a microVM's network cannot be bound: {error.strerror}") from error
    return bound


def _open_tap() -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        os.close(tap)
        raise HostError(f"the tap device cannot be opened: {os.strerror(error.errno or 0)}") from error
    return tap


def _make_tap() -> int:
    """Make a tap device that stays, and set the namespace's switches: /proc/sys/net is that of the thread."""
    _TUNSETPERSIST = 0x400454CB  # noqa: N806 - the kernel's name
    tap = _open_tap()
    fcntl.ioctl(tap, _TUNSETPERSIST, 1)
    switches = Path("/proc/sys/net/ipv4")
    (switches / "ip_forward").write_text("1")
    for interface in ("tap0", "up0"):
        (switches / "conf" / interface / "route_localnet").write_text("1")
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
    return tap


async def _ip_batch(namespace: str | None, *lines: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="emberbox-ip-") as batch:
        batch.write("\n".join(lines) + "\n")
        batch.flush()
        where = [] if namespace is None else ["-netns", namespace]
        await process.run(["ip", *where, "-batch", batch.name])


async def _apply_rules(rules: str, namespace: str | None = None, *options: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="emberbox-nft-") as batch:
        batch.write(rules)
        batch.flush()
        where = [] if namespace is None else ["nsenter", f"--net={_NETNS_DIRECTORY / namespace}", "--"]
        await process.run([*where, "nft", *options, "--file", batch.name])


async def _remove_namespace(slot: Slot) -> None:
    """Its devices go with it; the veth's end on the host is removed by name, as the kernel takes its time."""
    await process.run(["ip", "link", "delete", slot.interface], check=False)
    await process.run(["ip", "netns", "delete", slot.namespace], check=False)


def _existing_slots(network: ipaddress.IPv4Network, instance: int) -> list[Slot]:
    """Return the slots of a place whose namespaces exist."""
    prefix = f"emberbox-{instance}-"
    names = sorted(path.name.removeprefix(prefix) for path in _NETNS_DIRECTORY.glob(f"{prefix}*"))
    return [plan_slot(network, instance, int(name)) for name in names if name.isdecimal()]


async def _has_table(instance: int) -> bool:
    return (await process.run(["nft", "list", "table", "inet", _table(instance)], check=False)).returncode == 0


async def find_obstacle() -> str | None:
    """Return None where tap networks can be made, otherwise what is missing; the kernel is asked for every rule."""
    if os.geteuid() != 0:
        return "only root can make networks for microVMs"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {errno.errorcode.get(error.errno or 0, error)}"
    try:
        await _apply_rules(render_namespace_rules(None), None, "--check")
    except HostError as error:
        return f"nftables does not take the rules of a microVM's network: {error}"
    return None
