"""Network connectors as the API shows them; what is not set is left out on the wire (dossier, sections 2.1 and 8.2)."""

from __future__ import annotations

from typing import Any

from emberbox.model.records import Connector, ConnectorVersion


def show_made(connector: Connector, version: ConnectorVersion) -> dict[str, Any]:
    """Return what Create, Update and Delete answer."""
    return {
        "Arn": connector.arn,
        "Name": connector.name,
        "Id": connector.id,
        "VersionArn": f"{connector.arn}:{version.version}",
        "Version": version.version,
        "Configuration": version.configuration,
        "OperatorRole": version.operator_role,
        "State": connector.state,
    }


def show_connector(
    connector: Connector, named: ConnectorVersion | None, effective: ConnectorVersion | None
) -> dict[str, Any]:
    """Return what Get answers: the connector, or one version of it."""
    shown = {
        "Arn": connector.arn,
        "Name": connector.name,
        "Id": connector.id,
        "Configuration": effective and effective.configuration,
        "OperatorRole": effective and effective.operator_role,
        "State": connector.state,
        "StateReason": connector.state_reason,
        "StateReasonCode": connector.state_reason_code,
        "LastModified": connector.updated_at,
    }
    if named is not None:
        version = {"VersionArn": f"{connector.arn}:{named.version}", "Version": named.version}
        reason = {"StateReason": named.state_reason, "StateReasonCode": named.state_reason_code}
        return {**shown, **version, **reason, "State": named.state, "LastModified": named.updated_at}
    return {
        **shown,
        **_latest(connector),
        "LastUpdateStatus": connector.last_update_status,
        "LastUpdateStatusReason": connector.last_update_reason,
        "LastUpdateStatusReasonCode": connector.last_update_reason_code,
    }


def show_summary(connector: Connector) -> dict[str, Any]:
    """Return a connector as a list shows it."""
    return {
        "Arn": connector.arn,
        "Name": connector.name,
        "Id": connector.id,
        "Type": "VPC_EGRESS",
        "State": connector.state,
        "LastModified": connector.updated_at,
        **_latest(connector),
    }


def _latest(connector: Connector) -> dict[str, Any]:
    number = connector.latest_version
    return {"LatestVersionArn": f"{connector.arn}:{number}", "LatestVersion": number}


def show_version(connector: Connector, version: ConnectorVersion) -> dict[str, Any]:
    """Return a version as a list shows it."""
    return {
        "Arn": connector.arn,
        "VersionArn": f"{connector.arn}:{version.version}",
        "Name": connector.name,
        "Id": connector.id,
        "Version": version.version,
        "State": version.state,
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastModified": version.updated_at,
    }
