"""Names of sandboxes' ports, as E2B has them: `<port>-<sandbox>.<domain>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ENVD_PORT: Final = 49983
CODE_PORT: Final = 49999
OWN_PORTS: Final = frozenset({ENVD_PORT, CODE_PORT})
"""Ports that are answered by the server itself, not by what listens in the sandbox."""

SANDBOX_HEADER: Final = "e2b-sandbox-id"
PORT_HEADER: Final = "e2b-sandbox-port"
TOKEN_HEADER: Final = "x-access-token"  # noqa: S105 - the header's name
TRAFFIC_HEADER: Final = "e2b-traffic-access-token"
"""Has the token of a private sandbox's ports."""

OWN_HEADERS: Final = (SANDBOX_HEADER, PORT_HEADER, TRAFFIC_HEADER, TOKEN_HEADER)
"""What E2B's clients send everywhere, and what is nothing for guests."""

LAST_PORT: Final = 65535
_LABEL: Final = re.compile(r"([1-9][0-9]{0,4})-([a-z0-9-]{1,57})")
_DOMAIN: Final = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """What a request names: a sandbox, and a port of it."""

    sandbox_id: str
    port: int


def read_label(label: str) -> Address | None:
    """Return what the first label of a name, in lower case, names; None where it has another form."""
    found = _LABEL.fullmatch(label)
    if found is None or int(found[1]) > LAST_PORT:
        return None
    return Address(found[2], int(found[1]))


def read_domain(text: str) -> str:
    """Return the domain in `domain:port`, in lower case; empty where a certificate cannot have names below it.

    Args:
        text: as an operator writes it.
    """
    domain = text.partition(":")[0].lower()
    return domain if _DOMAIN.fullmatch(domain) else ""
