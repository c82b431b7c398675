"""The endpoints of microVMs: their names, what they take, and what they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emberbox.model.arns import endpoint_host
from emberbox.model.errors import EmberboxError

HTTPS_PORT: Final = 443


def with_port(host: str, port: int) -> str:
    """Write a host name with the port where it is not HTTPS's own."""
    return host if port == HTTPS_PORT else f"{host}:{port}"


class Unreachable(EmberboxError):  # noqa: N818  # the name that callers read best
    """A microVM does not run and may not be woken, or waking it failed."""


@dataclass(frozen=True, slots=True)
class EndpointNames:
    """Where endpoints are.

    Args:
        region: the region in their names.
        domain: what their names end with.
        port: where they are served.
    """

    region: str
    domain: str
    port: int = HTTPS_PORT

    def address(self, label: str) -> str:
        """Return the name of an endpoint, with the port where it is not HTTPS's own.

        Args:
            label: the first label of the name.
        """
        return with_port(endpoint_host(label, self.region, self.domain), self.port)


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What an endpoint takes; 0 is no limit.

    AWS's figures (dossier, section 6.5) are 8 connections and 10 requests a second for each vCPU of the peak size.

    Args:
        connections: clients' connections at once.
        requests_per_s: requests in a second, and as many in one burst.
    """

    connections: int = 0
    requests_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a guest's port can be reached from here.

    Args:
        address: an IP address.
        port: a TCP port at that address.
        incarnation: changes whenever the microVM is started or resumed, and is never the same for two
            microVMs; connections of one incarnation are never used for another. Visible ASCII without blanks.
        spoke_tls: whether the port spoke TLS when the image was built; None where nothing listened there then.
    """

    address: str
    port: int
    incarnation: str
    spoke_tls: bool | None = None

    def authority(self) -> str:
        """Write it as `address:port`, IPv6 in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
