"""What can be seen of a server from outside it: processes, mounts, networks."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from emberbox.machine.survivors import find_survivor
from emberbox.process.adoption import descendants
from emberbox.time_limits import limit_s

NETNS_DIRECTORY = Path("/run/netns")
REFUSING_FLAGS = os.O_ACCMODE


def run(*command: str, check: bool = True, pass_fds: tuple[int, ...] = ()) -> str:
    """Run a tool and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s(60), pass_fds=pass_fds)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def is_running(pid: int) -> bool:
    """Say whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def signal_vmm(pid: int, number: signal.Signals) -> None:
    """Send a signal to a VMM's process and all that it has started, such as a sandbox."""
    for one in (pid, *(process.pid for process in descendants(pid))):
        os.kill(one, number)


def read_status(pid: int) -> dict[str, str]:
    """Return /proc/<pid>/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def open_files(pid: int) -> dict[str, int]:
    """Return the files that a process holds open: path and access mode (O_RDONLY, O_WRONLY, O_RDWR)."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        flags = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0]
        found[str(link.readlink())] = int(flags, 8) & REFUSING_FLAGS
    return found


def processes_of(home: Path) -> list[str]:
    """Return the processes that name a home in their command line or hold a file of it open."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if str(home) in command or any(link.startswith(f"{home}/") for link in links):
            found.append(f"{entry.name} {command[:200]}")
    return found


def outer_address() -> str:
    """Return the address that this machine has for the world outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points below a directory."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [row[1] for row in rows if row[1].startswith(f"{directory}/")]


@dataclass(frozen=True)
class NetworkInventory:
    """The networks of one server, each thing with its identity: another server may take the names over."""

    namespaces: frozenset[str]
    links: frozenset[tuple[str, int]]
    tables: frozenset[str]

    def left(self, later: NetworkInventory) -> list[str]:
        """Return what is still there later, in words; namespaces count when no other server holds the place."""
        found: list[object] = [*(self.links & later.links), *(self.tables & later.tables)]
        if not later.tables:
            found += later.namespaces
        return [str(thing) for thing in found]


def network_inventory(instance: int) -> NetworkInventory:
    """Return the networks of the server that holds a place."""
    namespaces = {path.name for path in NETNS_DIRECTORY.glob(f"emberbox-{instance}-*")}
    links = json.loads(run("ip", "-json", "link", "show"))
    named = {(row["ifname"], row["ifindex"]) for row in links if row["ifname"].startswith(f"eb{instance}-")}
    objects = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
    tables = [item["table"] for item in objects if item.get("table", {}).get("name") == f"emberbox_{instance}"]
    own = {f"{table['name']} (handle {table['handle']})" for table in tables}
    return NetworkInventory(frozenset(namespaces), frozenset(named), frozenset(own))


def remove_networks(instance: int) -> None:
    """Remove the networks of a server that was killed."""
    found = network_inventory(instance)
    for name, _ in found.links:
        run("ip", "link", "delete", name, check=False)
    for name in found.namespaces:
        run("ip", "netns", "delete", name, check=False)
    run("nft", "delete", "table", "inet", f"emberbox_{instance}", check=False)


def own_addresses() -> list[str]:
    """Return this machine's IPv4 addresses, those of microVM networks and of loopback left out."""
    rows = json.loads(run("ip", "-json", "-4", "address", "show"))
    return [
        address["local"]
        for row in rows
        if row["ifname"] != "lo" and not row["ifname"].startswith("eb")
        for address in row["addr_info"]
    ]


@dataclass(frozen=True)
class SlotSeen:
    """The network of one microVM: its namespace, the host's end of the veth pair, and the address to reach it."""

    namespace: str
    interface: str
    host_address: str
    address: str


def slots(instance: int | None) -> list[SlotSeen]:
    """Return the networks that a server has made for microVMs, spare ones included."""
    if instance is None:
        return []
    found = []
    for row in json.loads(run("ip", "-json", "-4", "address", "show")):
        if row["ifname"].startswith(f"eb{instance}-") and row["addr_info"]:
            number = row["ifname"].partition("-")[2]
            host_address = row["addr_info"][0]["local"]
            address = str(ipaddress.IPv4Address(host_address) + 1)
            found.append(SlotSeen(f"emberbox-{instance}-{number}", row["ifname"], host_address, address))
    return found


def find_slot(instance: int | None, directory: Path) -> SlotSeen | None:
    """Return the network of a running microVM with that directory, as the server has noted it."""
    survivor = find_survivor(directory)
    number = survivor.slot if survivor else None
    return next((slot for slot in slots(instance) if slot.interface == f"eb{instance}-{number}"), None)
