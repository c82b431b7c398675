"""The operations on network connectors (dossier, section 8.2)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from emberbox.background import Background, until_written
from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.egress import ConnectorFinder
from emberbox.control.connectors.networks import load_networks
from emberbox.control.connectors.shapes import show_connector, show_made, show_summary, show_version
from emberbox.control.requests.idempotency import find_earlier, new_token
from emberbox.control.requests.paging import PageTokens
from emberbox.control.requests.tags import check_tags
from emberbox.model.arns import connector_arn, new_connector_id
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import ConflictError, HostError, NotFoundError, QuotaExceededError, ValidationError
from emberbox.model.iam.actions import CONNECTOR_VERDICTS, ConnectorAction
from emberbox.model.iam.quotas import CONNECTORS
from emberbox.model.records import Connector, ConnectorVersion
from emberbox.model.states import ConnectorState, Verdict
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.connectors import ConnectorStore, Problem

log = logging.getLogger(__name__)

INITIAL_REASON: Final = "Initial creation"
UNCHANGED_REASON: Final = "No configuration changes detected"
VERSIONS_MAX: Final = 100
PAGE_MAX: Final = 50
CHANGES_WITHIN_S: Final = 10.0
_NAME_MAX: Final = 64


class ConnectorService:
    """Answers the connector operations.

    Args:
        finder: finds connectors.
        store: connectors and their versions.
        client_tokens: earlier requests.
        quotas: the limits of accounts.
        page_tokens: for the lists.
        region: the region played.
        home: the state directory, where networks.toml is.
        on_change: called with a connector's ARN when it allows something else than before, or nothing any more.
    """

    def __init__(
        self, finder: ConnectorFinder, store: ConnectorStore, client_tokens: ClientTokenStore,
        quotas: Quotas, page_tokens: PageTokens, region: str, home: Path, on_change: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._finder = finder
        self._store = store
        self._client_tokens = client_tokens
        self._quotas = quotas
        self._page_tokens = page_tokens
        self._region = region
        self._home = home
        self._on_change = on_change
        self._background = Background()

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {
            "CreateNetworkConnector": self.create,
            "GetNetworkConnector": self.get,
            "ListNetworkConnectors": self.list_connectors,
            "ListNetworkConnectorVersions": self.list_versions,
            "UpdateNetworkConnector": self.update,
            "DeleteNetworkConnector": self.delete,
        }

    async def create(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """CreateNetworkConnector: PENDING until its subnets and security groups have been looked up."""
        earlier = find_earlier(self._client_tokens, caller, "CreateNetworkConnector", parameters)
        if earlier is not None:
            return self._show_made(caller, earlier)
        check_connector_request(parameters)
        self._quotas.check(caller.account_id, CONNECTORS, self._store.count(caller.account_id))
        now = datetime.now(UTC)
        connector_id, name = new_connector_id(), parameters["Name"]
        arn = connector_arn(self._region, caller.account_id, connector_id)
        connector = Connector(
            id=connector_id, account_id=caller.account_id, name=name, arn=arn, state=ConnectorState.PENDING,
            state_reason=INITIAL_REASON, state_reason_code=None, latest_version=1, last_update_status=None,
            last_update_reason=None, last_update_reason_code=None, tags=parameters.get("Tags") or {},
            created_at=now, updated_at=now,
        )  # fmt: skip
        version = _new_version(connector_id, 1, parameters["Configuration"], parameters["OperatorRole"], now)
        token = new_token(caller, "CreateNetworkConnector", parameters, connector_id)
        if not self._store.add(connector, version, token):
            raise ConflictError(f"A network connector with the name '{name}' already exists in this account")
        self._in_background(connector, self._settle(connector))
        return show_made(connector, version)

    def _show_made(self, caller: Caller, connector_id: str) -> Mapping[str, Any]:
        connector = self._store.find(caller.account_id, connector_id)
        version = None if connector is None else self._store.find_version(connector_id, 1)
        if connector is None or version is None:
            raise ConflictError("The ClientToken belongs to a connector that has been deleted; use a new one.")
        return show_made(connector, version)

    async def _settle(self, connector: Connector) -> None:
        def settle() -> None:
            version = self._store.find_version(connector.id, 1)
            if version is not None:
                self._store.settle(connector.id, self._find_problem(version), datetime.now(UTC))

        await until_written(settle, f"the state of {connector.arn}")

    def _find_problem(self, version: ConnectorVersion) -> Problem | None:
        try:
            return load_networks(self._home).find_problem(version.configuration)
        except HostError as error:
            return "InternalError", str(error)
        except Exception as error:
            log.exception("a network connector could not be looked up")
            return "InternalError", f"{type(error).__name__}: {error}"

    async def get(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """GetNetworkConnector."""
        connector, version = self._find(caller, parameters)
        return show_connector(connector, version, self._finder.effective(connector, version))

    async def list_connectors(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListNetworkConnectors, newest first."""
        limit = min(parameters.get("MaxItems", PAGE_MAX), PAGE_MAX)
        after = self._page_tokens.open_moment("ListNetworkConnectors", parameters.get("Marker"))
        state = parameters.get("State")
        found = self._store.list_page(caller.account_id, limit + 1, after, state and ConnectorState(state))
        page, marker = found[:limit], None
        if len(found) > limit:
            marker = self._page_tokens.seal("ListNetworkConnectors", [page[-1].created_at.timestamp(), page[-1].id])
        return {"NetworkConnectors": [show_summary(connector) for connector in page], "NextMarker": marker}

    async def list_versions(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListNetworkConnectorVersions, newest first; a marker is the last version that was seen."""
        connector, _ = self._find(caller, parameters)
        operation, limit = "ListNetworkConnectorVersions", parameters.get("MaxItems", PAGE_MAX)
        marker = parameters.get("Marker")
        before = None if marker is None else int(self._page_tokens.open(operation, marker)[0])
        found = [
            version
            for version in self._store.list_versions(connector.id)
            if (before is None or version.version < before) and parameters.get("State", version.state) == version.state
        ]
        page = found[:limit]
        following = self._page_tokens.seal(operation, [page[-1].version]) if len(found) > limit else None
        shown = [show_version(connector, version) for version in page]
        return {"NetworkConnectorVersions": shown, "NextMarker": following}

    async def update(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """UpdateNetworkConnector: a new version, which counts when its subnets and groups have been looked up."""
        connector, qualified = self._find(caller, parameters)
        if qualified is not None:
            raise ValidationError("A version cannot be updated: name the network connector without one")
        operation = "UpdateNetworkConnector"
        if (earlier := find_earlier(self._client_tokens, caller, operation, parameters)) is not None:
            return self._show_updated(connector, self._store.find_version(connector.id, int(earlier)))
        if CONNECTOR_VERDICTS[connector.state, ConnectorAction.UPDATE] is not Verdict.DO:
            raise _busy(connector)
        latest = self._finder.effective(connector, None)
        assert latest is not None
        configuration = parameters.get("Configuration", latest.configuration)
        role = parameters.get("OperatorRole", latest.operator_role)
        check_configuration(configuration)
        now = datetime.now(UTC)
        if (configuration, role) == (latest.configuration, latest.operator_role):
            self._store.note_unchanged(connector.id, UNCHANGED_REASON, now)
            return self._show_updated(connector, latest)
        versions = self._store.list_versions(connector.id)
        if len(versions) >= VERSIONS_MAX:
            raise QuotaExceededError(
                f"The network connector has {VERSIONS_MAX} versions, which is the most; delete some that are not used"
            )
        version = _new_version(connector.id, versions[0].version + 1, configuration, role, now)
        token = new_token(caller, operation, parameters, str(version.version))
        if not self._store.begin_update(version, token):
            raise _busy(connector)
        self._in_background(connector, self._finish_update(connector, version))
        return self._show_updated(connector, version)

    def _show_updated(self, connector: Connector, version: ConnectorVersion | None) -> Mapping[str, Any]:
        found = self._store.find(connector.account_id, connector.id)
        if found is None or version is None:
            raise ConflictError("The ClientToken belongs to a version that has been deleted; use a new one.")
        return {
            **show_made(found, version),
            "LastUpdateStatus": found.last_update_status,
            "LastUpdateStatusReason": found.last_update_reason,
            "LastModified": found.updated_at,
        }

    async def _finish_update(self, connector: Connector, version: ConnectorVersion) -> None:
        problem = self._find_problem(version)
        await until_written(
            lambda: self._store.finish_update(connector.id, version.version, problem, datetime.now(UTC)),
            f"the update of {connector.arn}",
        )
        await self._on_change(connector.arn)

    async def delete(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteNetworkConnector: the whole, or one version that counts no more."""
        connector, version = self._find(caller, parameters)
        if version is not None:
            return self._delete_version(connector, version)
        match CONNECTOR_VERDICTS[connector.state, ConnectorAction.DELETE]:
            case Verdict.DO:
                self._store.begin_to_delete(connector.id, datetime.now(UTC))
                self._in_background(connector, self._remove(connector))
            case Verdict.CONFLICT:
                raise _busy(connector)
        latest = self._finder.effective(connector, None)
        assert latest is not None
        return {**show_made(connector, latest), "State": ConnectorState.DELETING}

    def _delete_version(self, connector: Connector, version: ConnectorVersion) -> Mapping[str, Any]:
        if version.version == connector.latest_version:
            raise ConflictError("The latest version cannot be deleted; delete the network connector instead")
        if version.state is ConnectorState.PENDING:
            raise _busy(connector)
        self._store.remove_version(connector.id, version.version)
        return {**show_made(connector, version), "State": ConnectorState.DELETING}

    async def _remove(self, connector: Connector) -> None:
        """Cut off those that use it, then forget it."""
        problem: Problem | None = None
        try:
            await self._on_change(connector.arn)
        except Exception as error:
            log.error("%s cannot be deleted, a microVM would keep its egress", connector.arn, exc_info=error)
            problem = "InternalError", str(error) or type(error).__name__

        def settle() -> None:
            if problem is None:
                self._store.remove(connector.id)
            else:
                self._store.fail_deletion(connector.id, problem, datetime.now(UTC))

        await until_written(settle, f"the deletion of {connector.arn}")

    def _find(self, caller: Caller, parameters: dict[str, Any]) -> tuple[Connector, ConnectorVersion | None]:
        """Return the connector that `Identifier` names by id, name or ARN, and the version where it has one."""
        identifier = parameters["Identifier"]
        if identifier.startswith("arn:"):
            return self._finder.find_by_arn(caller, identifier)
        connector = self._store.find(caller.account_id, identifier)
        if connector is None:
            arn = connector_arn(self._region, caller.account_id, identifier)
            raise NotFoundError(f"Network connector not found for: {arn}")
        return connector, None

    def finish_unsettled(self) -> None:
        """Finish what an earlier server began."""
        for connector in self._store.list_unsettled():
            if connector.state is ConnectorState.PENDING:
                self._in_background(connector, self._settle(connector))
            elif connector.state is ConnectorState.DELETING:
                self._in_background(connector, self._remove(connector))
            else:
                newest = self._store.list_versions(connector.id)[0]
                self._in_background(connector, self._finish_update(connector, newest))

    def _in_background(self, connector: Connector, work: Coroutine[Any, Any, None]) -> None:
        self._background.start(work, f"a change of {connector.arn}")

    async def close(self) -> None:
        """Wait for what is under way; what takes long is finished by the next server."""
        await self._background.close(CHANGES_WITHIN_S)


def _new_version(
    connector_id: str, number: int, configuration: Mapping[str, Any], operator_role: str, now: datetime
) -> ConnectorVersion:
    state, reason = ConnectorState.PENDING, INITIAL_REASON if number == 1 else None
    return ConnectorVersion(connector_id, number, state, reason, None, configuration, operator_role, now)


def check_connector_request(parameters: Mapping[str, Any]) -> None:
    """Refuse what CreateNetworkConnector refuses beyond the service model; m80 recorded what is required.

    Raises:
        ValidationError: a member is missing or not possible here.
    """
    if "ClientToken" not in parameters:
        raise ValidationError("ClientToken is a required field")
    if len(parameters["Name"]) > _NAME_MAX or parameters["Name"].startswith("arn:"):
        raise ValidationError(f"Name must be a name of up to {_NAME_MAX} characters, and no ARN")
    if not parameters.get("OperatorRole"):
        raise ValidationError("NetworkConnectorOperatorRole is required for VPC_EGRESS connector type")
    check_tags(parameters.get("Tags") or {})
    check_configuration(parameters["Configuration"])


def check_configuration(configuration: Mapping[str, Any]) -> None:
    """Refuse a configuration that lacks what is needed, or asks for what is not here.

    Raises:
        ValidationError: see above.
    """
    vpc = configuration["VpcEgressConfiguration"]
    for name in ("SubnetIds", "NetworkProtocol", "AssociatedComputeResourceTypes"):
        if not vpc.get(name):
            raise ValidationError(f"{name} is a required field")
    if vpc["AssociatedComputeResourceTypes"] != ["MicroVm"]:
        raise ValidationError("AssociatedComputeResourceTypes can only be [MicroVm] here: there are no functions")
    if (vpc.get("ElasticIpConfiguration") or {}).get("Type", "None") != "None":
        raise ValidationError("ElasticIpConfiguration can only have the Type None here: there are no Elastic IPs")


def _busy(connector: Connector) -> ConflictError:
    if connector.state is ConnectorState.ACTIVE:
        return ConflictError(f"An update is in progress for the network connector: {connector.arn}")
    return ConflictError(f"The network connector {connector.arn} is in state {connector.state}; wait until it settles")
