"""Egress connectors where they are used: which may be named, and what a microVM or a build may reach through them.

Requests are kept with the ARNs that they named; in the order of AWS's errors an unfit one comes late; and what AWS
manages has no row. So here, as in `control/access`, an ARN is a value. Everybody else names a connector by a
`ConnectorName`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emberbox.control.connectors.networks import load_networks
from emberbox.model.arns import (
    EGRESS_CONNECTORS,
    check_managed_connector,
    is_managed_connector,
    managed_connector_arn,
    split_connector_arn,
)
from emberbox.model.caller import Caller
from emberbox.model.connectors import Connector, ConnectorName, ConnectorVersion, FoundConnector, VpcEgress
from emberbox.model.egress import NO_EGRESS, EgressPolicy
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.iam.actions import CONNECTOR_VERDICTS, ConnectorAction
from emberbox.model.states import ConnectorState, Verdict
from emberbox.store.connectors import ConnectorStore


class ConnectorFinder:
    """Finds the network connector that a caller names, in the caller's own account.

    Args:
        store: connectors and their versions.
        region: the region played.
    """

    def __init__(self, store: ConnectorStore, region: str) -> None:
        self._store = store
        self._region = region

    def find(self, caller: Caller, name: ConnectorName) -> FoundConnector:
        """Return the connector that is named, and the version where one is meant.

        Raises:
            NotFoundError: there is no such connector or version.
        """
        connector = self._store.find(caller.account_id, name.key)
        version = None
        if connector is not None and name.version is not None:
            version = self._store.find_version(connector.id, name.version)
        if connector is None or (name.version is not None and version is None):
            raise NotFoundError(f"Network connector not found for: {name.named}")
        return FoundConnector(connector, version, version or self.latest(connector))

    def find_by_arn(self, caller: Caller, text: str) -> tuple[Connector, ConnectorVersion | None]:
        """Return the connector of an ARN, and the version where the ARN has one.

        Raises:
            ValidationError, AccessDeniedError: it is no such ARN, or another account's.
            NotFoundError: there is no such connector or version.
        """
        key, version = split_connector_arn(text, self._region, caller.account_id)
        found = self.find(caller, ConnectorName(key, version, named=text))
        return found.connector, found.named

    def latest(self, connector: Connector) -> ConnectorVersion | None:
        """Return the version that counts where none is named."""
        return self._store.find_version(connector.id, connector.latest_version)


class EgressRules:
    """What the rest of the control plane asks about egress connectors.

    Args:
        finder: finds connectors.
        store: connectors and their versions.
        region: the region played.
        home: the state directory, where networks.toml is.
    """

    def __init__(self, finder: ConnectorFinder, store: ConnectorStore, region: str, home: Path) -> None:
        self._finder = finder
        self._store = store
        self._region = region
        self._home = home

    def check(self, caller: Caller, given: Sequence[str] | None, inherited: Sequence[str] | None = None) -> list[str]:
        """Return the egress connectors of a request when every one of them may be used.

        Args:
            caller: their owner.
            given: what the request names; nothing or nothing in it takes what is inherited.
            inherited: those of the image version; None takes INTERNET_EGRESS.

        Raises:
            ValidationError: one is malformed, unknown, or not ACTIVE.
            AccessDeniedError: one is another account's.
            NotFoundError: one does not exist.
        """
        arns = list(given or inherited or [managed_connector_arn(self._region, "INTERNET_EGRESS")])
        for arn in arns:
            if is_managed_connector(arn):
                check_managed_connector(arn, EGRESS_CONNECTORS, self._region)
            else:
                self._check_own(caller, arn)
        return arns

    def _check_own(self, caller: Caller, arn: str) -> None:
        connector, version = self._finder.find_by_arn(caller, arn)
        if CONNECTOR_VERDICTS[connector.state, ConnectorAction.USE] is not Verdict.DO:
            raise ValidationError(f"Network connector {arn} is in state {connector.state}; it must be ACTIVE")
        if version is not None and version.state is not ConnectorState.ACTIVE:
            raise ValidationError(f"Network connector {arn} is in state {version.state}; it must be ACTIVE")

    def policy(self, account_id: str, arns: Sequence[str]) -> EgressPolicy | None:
        """Return what checked connectors allow; None for public addresses. AWS lets one count: here the first.

        Raises:
            HostError: networks.toml does not define (any more) what the connector names.
        """
        arn = arns[0]
        if is_managed_connector(arn):
            return None
        configuration = self._configuration(account_id, arn)
        return NO_EGRESS if configuration is None else load_networks(self._home).policy(configuration)

    def _configuration(self, account_id: str, arn: str) -> VpcEgress | None:
        """Return the configuration that counts; None when the connector is gone: its users then reach nothing."""
        connector_id, number = split_connector_arn(arn, self._region, account_id)
        connector = self._store.find(account_id, connector_id)
        if connector is None or connector.state is not ConnectorState.ACTIVE:
            return None
        version = self._store.find_version(connector.id, number or connector.latest_version)
        return None if version is None else version.configuration
