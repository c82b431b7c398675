"""The slots of a place on the machine: which names and addresses each has."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

GUEST_ADDRESS = "10.0.2.15"
GUEST_PREFIX_LENGTH = 24
GUEST_MAC = "02:eb:00:00:00:01"
GATEWAY_ADDRESS = "10.0.2.2"
GATEWAY_MAC = "02:eb:00:00:00:02"
DNS_ADDRESS = "10.0.2.3"
DNS_PORT = 53
METADATA_ADDRESS = "169.254.169.254"
METADATA_PORT = 80

LOOPBACK_ADDRESS = "127.0.0.1"

INSTANCES = 64
SLOTS_PER_INSTANCE = 512
NETNS_DIRECTORY = Path("/run/netns")


class DeviceKind(Enum):
    """What the guest's end of a slot is, and which of the guest's addresses the packets of clients are for.

    A tap device leads to a guest whose kernel takes packets for its loopback from outside. A packet socket is at one
    end of a pair of devices, for a kernel that does not.
    """

    TAP = LOOPBACK_ADDRESS
    PACKETS = GUEST_ADDRESS


@dataclass(frozen=True, slots=True)
class Slot:
    """One network, free or taken by a microVM.

    Args:
        number: its place in this instance, 0 to 511.
        namespace: the name of its network namespace.
        interface: the host's end of the veth pair.
        host_address: the host's address on it.
        address: the address at which the gateway reaches the guest, every port alike.
        kind: what the guest's end is.
    """

    number: int
    namespace: str
    interface: str
    host_address: str
    address: str
    kind: DeviceKind = DeviceKind.TAP

    @property
    def namespace_path(self) -> Path:
        """Where its namespace is."""
        return NETNS_DIRECTORY / self.namespace


def plan_slot(network: ipaddress.IPv4Network, instance: int, number: int, kind: DeviceKind = DeviceKind.TAP) -> Slot:
    """Return the names and addresses of a slot: /31 pairs, 512 to an instance."""
    offset = (instance * SLOTS_PER_INSTANCE + number) * 2
    return Slot(
        number=number,
        namespace=f"emberbox-{instance}-{number}",
        interface=f"eb{instance}-{number}",
        host_address=str(network[offset]),
        address=str(network[offset + 1]),
        kind=kind,
    )


def existing_slots(network: ipaddress.IPv4Network, instance: int) -> list[Slot]:
    """Return the slots of a place whose namespaces exist; of which kind they are is not to be seen."""
    prefix = f"emberbox-{instance}-"
    names = sorted(path.name.removeprefix(prefix) for path in NETNS_DIRECTORY.glob(f"{prefix}*"))
    return [plan_slot(network, instance, int(name)) for name in names if name.isdecimal()]
