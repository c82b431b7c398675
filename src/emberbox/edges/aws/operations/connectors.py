"""The operations on network connectors (dossier, sections 2.1 and 8.2); what is not set is left out on the wire."""

from __future__ import annotations

from typing import Final

from emberbox.control.connectors.commands import (
    CreateConnector,
    ListConnectors,
    ListConnectorVersions,
    UpdateConnector,
)
from emberbox.control.connectors.service import ConnectorService
from emberbox.control.requests.paging import PageRequest
from emberbox.edges.aws.operations.client_tokens import read_client_request
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.arns import connector_arn, split_connector_arn
from emberbox.model.caller import Caller
from emberbox.model.connectors import (
    Connector,
    ConnectorName,
    ConnectorVersion,
    FoundConnector,
    VersionedConnector,
    VpcEgress,
)
from emberbox.model.errors import ValidationError
from emberbox.model.states import ConnectorState

DEFAULT_ITEMS: Final = 50


def handlers(connectors: ConnectorService, region: str) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        connectors: does what is asked.
        region: the region played, for ARNs.
    """

    async def create(caller: Caller, parameters: Parameters) -> Members:
        return show_made(await connectors.create(caller, read_create(parameters)))

    async def get(caller: Caller, parameters: Parameters) -> Members:
        return show_connector(connectors.get(caller, read_name(caller, region, parameters)))

    async def list_connectors(caller: Caller, parameters: Parameters) -> Members:
        page = connectors.list_connectors(caller, ListConnectors(_read_state(parameters), _read_page(parameters)))
        return {"NetworkConnectors": [show_summary(one) for one in page.items], "NextMarker": page.next_token}

    async def list_versions(caller: Caller, parameters: Parameters) -> Members:
        name = read_name(caller, region, parameters)
        asked = ListConnectorVersions(name, _read_state(parameters), _read_page(parameters))
        page = connectors.list_versions(caller, asked)
        return {"NetworkConnectorVersions": [show_version(one) for one in page.items], "NextMarker": page.next_token}

    async def update(caller: Caller, parameters: Parameters) -> Members:
        return show_updated(await connectors.update(caller, read_update(caller, region, parameters)))

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        deleted = await connectors.delete(caller, read_name(caller, region, parameters))
        return {**show_made(deleted), "State": ConnectorState.DELETING}

    return {
        "CreateNetworkConnector": create,
        "GetNetworkConnector": get,
        "ListNetworkConnectors": list_connectors,
        "ListNetworkConnectorVersions": list_versions,
        "UpdateNetworkConnector": update,
        "DeleteNetworkConnector": delete,
    }


def read_create(parameters: Parameters) -> CreateConnector:
    """Return what CreateNetworkConnector asks for.

    Raises:
        ValidationError: it has no token; m80 recorded that it must, whatever the model says.
    """
    request = read_client_request("CreateNetworkConnector", parameters)
    if request is None:
        raise ValidationError("ClientToken is a required field")
    return CreateConnector(
        name=parameters["Name"],
        configuration=read_configuration(parameters["Configuration"]),
        operator_role=parameters.get("OperatorRole"),
        tags=parameters.get("Tags") or {},
        request=request,
    )


def read_update(caller: Caller, region: str, parameters: Parameters) -> UpdateConnector:
    """Return what UpdateNetworkConnector asks for.

    Raises:
        ValidationError, AccessDeniedError: see `read_name`.
    """
    given = parameters.get("Configuration")
    return UpdateConnector(
        connector=read_name(caller, region, parameters),
        configuration=None if given is None else read_configuration(given),
        operator_role=parameters.get("OperatorRole"),
        request=read_client_request("UpdateNetworkConnector", parameters),
    )


def read_name(caller: Caller, region: str, parameters: Parameters) -> ConnectorName:
    """Return the connector that `Identifier` names by id, name or ARN, and the version where it has one.

    Raises:
        ValidationError, AccessDeniedError: it is an ARN, but not of a connector, or of another account's.
    """
    identifier = parameters["Identifier"]
    if not identifier.startswith("arn:"):
        return ConnectorName(identifier, None, named=connector_arn(region, caller.account_id, identifier))
    key, version = split_connector_arn(identifier, region, caller.account_id)
    return ConnectorName(key, version, named=identifier)


def _read_state(parameters: Parameters) -> ConnectorState | None:
    state = parameters.get("State")
    return None if state is None else ConnectorState(state)


def _read_page(parameters: Parameters) -> PageRequest:
    return PageRequest(parameters.get("MaxItems", DEFAULT_ITEMS), parameters.get("Marker"))


def read_configuration(given: Parameters) -> VpcEgress:
    """Return a configuration; the model has one kind of it, which is always there."""
    vpc = given["VpcEgressConfiguration"]
    return VpcEgress(
        subnet_ids=_read_list(vpc, "SubnetIds"),
        security_group_ids=_read_list(vpc, "SecurityGroupIds"),
        network_protocol=vpc.get("NetworkProtocol"),
        compute_types=_read_list(vpc, "AssociatedComputeResourceTypes"),
        elastic_ip=vpc["ElasticIpConfiguration"]["Type"] if "ElasticIpConfiguration" in vpc else None,
    )


def _read_list(parameters: Parameters, name: str) -> tuple[str, ...] | None:
    return tuple(parameters[name]) if name in parameters else None


def show_configuration(configuration: VpcEgress) -> Members:
    """Return a configuration as it was given."""
    elastic_ip = configuration.elastic_ip
    return {
        "VpcEgressConfiguration": {
            "SubnetIds": configuration.subnet_ids,
            "SecurityGroupIds": configuration.security_group_ids,
            "NetworkProtocol": configuration.network_protocol,
            "AssociatedComputeResourceTypes": configuration.compute_types,
            "ElasticIpConfiguration": None if elastic_ip is None else {"Type": elastic_ip},
        }
    }


def show_made(made: VersionedConnector) -> Members:
    """Return what Create, Update and Delete answer."""
    connector, version = made.connector, made.version
    return {
        **_show_names(connector),
        **_show_number(connector, version.version),
        "Configuration": show_configuration(version.configuration),
        "OperatorRole": version.operator_role,
        "State": connector.state,
    }


def show_updated(updated: VersionedConnector) -> Members:
    """Return what Update answers."""
    connector = updated.connector
    return {
        **show_made(updated),
        "LastUpdateStatus": connector.last_update_status,
        "LastUpdateStatusReason": connector.last_update_reason,
        "LastModified": connector.updated_at,
    }


def show_connector(found: FoundConnector) -> Members:
    """Return what Get answers: the connector, or one version of it."""
    connector, effective = found.connector, found.effective
    shown = {
        **_show_names(connector),
        "Configuration": effective and show_configuration(effective.configuration),
        "OperatorRole": effective and effective.operator_role,
    }
    if found.named is not None:
        return {**shown, **_show_number(connector, found.named.version), **_show_state(found.named)}
    return {
        **shown,
        **_show_state(connector),
        **_show_latest(connector),
        "LastUpdateStatus": connector.last_update_status,
        "LastUpdateStatusReason": connector.last_update_reason,
        "LastUpdateStatusReasonCode": connector.last_update_reason_code,
    }


def show_summary(connector: Connector) -> Members:
    """Return a connector as a list shows it."""
    return {
        **_show_names(connector),
        "Type": "VPC_EGRESS",
        "State": connector.state,
        "LastModified": connector.updated_at,
        **_show_latest(connector),
    }


def show_version(listed: VersionedConnector) -> Members:
    """Return a version as a list shows it."""
    connector, version = listed.connector, listed.version
    return {**_show_names(connector), **_show_number(connector, version.version), **_show_state(version)}


def _show_names(connector: Connector) -> Members:
    return {"Arn": connector.arn, "Name": connector.name, "Id": connector.id}


def _show_number(connector: Connector, number: int) -> Members:
    return {"VersionArn": f"{connector.arn}:{number}", "Version": number}


def _show_latest(connector: Connector) -> Members:
    number = connector.latest_version
    return {"LatestVersionArn": f"{connector.arn}:{number}", "LatestVersion": number}


def _show_state(shown: Connector | ConnectorVersion) -> Members:
    return {
        "State": shown.state,
        "StateReason": shown.state_reason,
        "StateReasonCode": shown.state_reason_code,
        "LastModified": shown.updated_at,
    }
