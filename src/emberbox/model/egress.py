"""What a guest may reach: what a network connector comes to, in terms of networks and ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Protocol = Literal["all", "tcp", "udp", "icmp"]


@dataclass(frozen=True, slots=True)
class EgressRule:
    """Destinations that a security group allows.

    Args:
        cidr: the network.
        protocol: the protocol, or `all`.
        ports: first and last port, for tcp and udp; None allows every port.
    """

    cidr: str
    protocol: Protocol
    ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Where the packets of a guest may go; the host and other microVMs are never among it.

    Args:
        networks: CIDRs of the subnets, none of them inside another.
        internet: whether public addresses are reached as well.
        rules: what the security groups leave of that; None leaves everything.
        resolver: the name server of the guest; without one, the host's where `internet` is set, else none.
    """

    networks: tuple[str, ...]
    internet: bool
    rules: tuple[EgressRule, ...] | None
    resolver: str | None


NO_EGRESS: Final = EgressPolicy((), False, (), None)
"""Nothing at all, not even a name server."""
