"""The network of a sandbox, as its control protocol takes it: no interface of the host's is read or changed.

The link is a packet socket (packet(7)) that is bound to one end of a veth pair. A tap device cannot be used: the
sandbox's seccomp filter has no readv(2).
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any, Final

_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 15, 1, 1
_ETH_P_ALL: Final = 0x0003
GSO_MAX_BYTES: Final = 65536
MTU: Final = 1500


@dataclass(frozen=True, slots=True)
class Link:
    """The sandbox's device `eth0`.

    Args:
        socket: a descriptor of a packet socket (`open_packet_socket`); the caller's to close, the sandbox has its own.
        address: the sandbox's, such as `10.0.2.15`.
        prefix_length: of its network.
        gateway: where everything else is reached.
        mac: its hardware address, such as `02:eb:00:00:00:01`.
    """

    socket: int
    address: str
    prefix_length: int
    gateway: str
    mac: str


def open_packet_socket(device: str) -> int:
    """Return a packet socket bound to a device of the calling thread's network namespace; the caller closes it.

    It takes packets for every hardware address, so the device's own can be another than the sandbox's: then the host's
    own network leaves them alone. Packets have a header for segmentation offload (virtio's), as veth devices hand on
    packets of 64 KiB.

    Raises:
        OSError: there is no such device, or no privilege.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)) as opened:
        opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        opened.bind((device, _ETH_P_ALL))
        index = socket.if_nametoindex(device)
        membership = index.to_bytes(4, "little") + _PACKET_MR_PROMISC.to_bytes(2, "little") + bytes(10)
        opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        return opened.detach()


def render_links(link: Link | None) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return the argument of `Network.CreateLinksAndRoutes`, and the descriptors that go with it.

    Addresses are Go's `net.IP` (text), masks `net.IPMask` and hardware addresses `net.HardwareAddr` (base64).
    """
    arguments: dict[str, Any] = {"LoopbackLinks": [_LOOPBACK], "DisconnectOk": True}
    if link is None:
        return arguments, ()
    network = ipaddress.ip_interface(f"{link.address}/{link.prefix_length}").network
    arguments["FDBasedLinks"] = [
        {
            "Name": "eth0",
            "MTU": MTU,
            "Addresses": [{"Address": link.address, "PrefixLen": link.prefix_length}],
            "Routes": [_route(str(network.network_address), link.prefix_length)],
            "GSOMaxSize": GSO_MAX_BYTES,
            "RXChecksumOffload": True,
            "LinkAddress": _base64(bytes.fromhex(link.mac.replace(":", ""))),
            "QDisc": 1,
            "NumChannels": 1,
        }
    ]
    arguments["Defaultv4Gateway"] = {"Name": "eth0", "Route": _route("0.0.0.0", 0, link.gateway)}  # noqa: S104 - a route
    return arguments, (link.socket,)


def _route(network: str, prefix_length: int, gateway: str = "") -> dict[str, Any]:
    bits = 128 if ":" in network else 32
    mask = (((1 << prefix_length) - 1) << (bits - prefix_length)).to_bytes(bits // 8, "big")
    return {"Destination": {"IP": network, "Mask": _base64(mask)}, "Gateway": gateway}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


_LOOPBACK: Final = {
    "Name": "lo",
    "Addresses": [{"Address": "127.0.0.1", "PrefixLen": 8}, {"Address": "::1", "PrefixLen": 128}],
    "Routes": [_route("127.0.0.0", 8), _route("::1", 128)],
}
