"""What a microVM's ingress connectors let in at its endpoint (dossier, section 8.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from emberbox.control.endpoints.tokens import Kind
from emberbox.model.launch_requests import Ingress

LETS_IN: Final[Mapping[Ingress, frozenset[Kind]]] = {
    Ingress.HTTP: frozenset({"application"}),
    Ingress.ALL: frozenset({"application"}),  # no shells, in spite of its name
    Ingress.SHELL: frozenset({"shell"}),
    Ingress.NONE: frozenset(),
}


def lets_in(connectors: Collection[Ingress], kind: Kind) -> bool:
    """Say whether connectors let a kind of request in. NO_INGRESS closes the endpoint, whatever is beside it."""
    return Ingress.NONE not in connectors and any(kind in LETS_IN[connector] for connector in connectors)
