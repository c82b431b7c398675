"""The endpoints of microVMs: their names."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.model.arns import endpoint_host

HTTPS_PORT = 443


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
        host = endpoint_host(label, self.region, self.domain)
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"
