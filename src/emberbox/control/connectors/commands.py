"""What is asked of network connectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emberbox.control.requests.idempotency import ClientRequest
from emberbox.control.requests.paging import PageRequest
from emberbox.model.connectors import ConnectorName, VpcEgress
from emberbox.model.states import ConnectorState


@dataclass(frozen=True, slots=True)
class CreateConnector:
    """Asks for a connector.

    Args:
        name: unlike any other of the account's.
        configuration: where it leads.
        operator_role: the role that AWS would connect with; kept and shown, and otherwise without effect.
        tags: of the connector.
        request: what tells a repeat.
    """

    name: str
    configuration: VpcEgress
    operator_role: str | None
    tags: Mapping[str, str]
    request: ClientRequest


@dataclass(frozen=True, slots=True)
class UpdateConnector:
    """Asks for a new version of a connector; what is None stays as it is.

    Args:
        connector: which; a version of it cannot be updated.
        configuration: where it leads.
        operator_role: see `CreateConnector`.
        request: what tells a repeat.
    """

    connector: ConnectorName
    configuration: VpcEgress | None
    operator_role: str | None
    request: ClientRequest | None


@dataclass(frozen=True, slots=True)
class ListConnectors:
    """Asks for a page of connectors, of one state or of all."""

    state: ConnectorState | None
    page: PageRequest


@dataclass(frozen=True, slots=True)
class ListConnectorVersions:
    """Asks for a page of a connector's versions, of one state or of all."""

    connector: ConnectorName
    state: ConnectorState | None
    page: PageRequest
