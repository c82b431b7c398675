"""What a microVM's ingress connectors let in at its endpoint (dossier, section 8.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from emberbox.control.endpoints.tokens import Kind

LETS_IN: Final[Mapping[str, frozenset[Kind]]] = {
    "HTTP_INGRESS": frozenset({"application"}),
    "ALL_INGRESS": frozenset({"application"}),  # no shells, in spite of its name
    "SHELL_INGRESS": frozenset({"shell"}),
    "NO_INGRESS": frozenset(),
}


def lets_in(connector_arns: Iterable[str], kind: Kind) -> bool:
    """Say whether connectors let a kind of request in. NO_INGRESS closes the endpoint, whatever is beside it."""
    names = {arn.rpartition(":")[2] for arn in connector_arns}
    return "NO_INGRESS" not in names and any(kind in LETS_IN[name] for name in names)
