"""Network connectors: made, changed, looked up and deleted (dossier, section 8.2)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from emberbox.background import Background, until_written
from emberbox.control.access.quotas import Quotas
from emberbox.control.connectors.commands import (
    CreateConnector,
    ListConnectors,
    ListConnectorVersions,
    UpdateConnector,
)
from emberbox.control.connectors.egress import ConnectorFinder
from emberbox.control.connectors.networks import load_networks
from emberbox.control.connectors.rules import check_configuration, check_new
from emberbox.control.requests.idempotency import find_made, note_made
from emberbox.control.requests.paging import Page, PageTokens
from emberbox.model.arns import connector_arn, new_connector_id
from emberbox.model.caller import Caller
from emberbox.model.connectors import (
    Connector,
    ConnectorName,
    ConnectorVersion,
    FoundConnector,
    VersionedConnector,
    VpcEgress,
)
from emberbox.model.errors import ConflictError, HostError, QuotaExceededError, ValidationError
from emberbox.model.iam.actions import CONNECTOR_VERDICTS, ConnectorAction
from emberbox.model.iam.quotas import CONNECTORS
from emberbox.model.states import ConnectorState, Verdict
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.connectors import ConnectorStore, Problem

log = logging.getLogger(__name__)

INITIAL_REASON: Final = "Initial creation"
UNCHANGED_REASON: Final = "No configuration changes detected"
VERSIONS_MAX: Final = 100
PAGE_MAX: Final = 50
CHANGES_WITHIN_S: Final = 10.0
_CONNECTORS, _VERSIONS = "ListNetworkConnectors", "ListNetworkConnectorVersions"  # in page tokens


class ConnectorService:
    """Makes, changes, tells of and deletes network connectors.

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

    async def create(self, caller: Caller, asked: CreateConnector) -> VersionedConnector:
        """Make a connector, PENDING until its subnets and security groups have been looked up.

        Raises:
            ConflictError: the name is taken, or the token was used otherwise.
            ValidationError, QuotaExceededError: see `rules.check_new` and `Quotas.check`.
        """
        earlier = find_made(self._client_tokens, caller, asked.request, partial(self._find_made, caller))
        if earlier is not None:
            return earlier
        role = check_new(asked)
        self._quotas.check(caller.account_id, CONNECTORS, self._store.count(caller.account_id))
        now, connector_id = datetime.now(UTC), new_connector_id()
        connector = Connector(
            id=connector_id, account_id=caller.account_id, name=asked.name,
            arn=connector_arn(self._region, caller.account_id, connector_id), state=ConnectorState.PENDING,
            state_reason=INITIAL_REASON, state_reason_code=None, latest_version=1, last_update_status=None,
            last_update_reason=None, last_update_reason_code=None, tags=asked.tags, created_at=now, updated_at=now,
        )  # fmt: skip
        version = _new_version(connector_id, 1, asked.configuration, role, now)
        if not self._store.add(connector, version, note_made(caller, asked.request, connector_id)):
            raise ConflictError(f"A network connector with the name '{asked.name}' already exists in this account")
        self._in_background(connector, self._settle(connector))
        return VersionedConnector(connector, version)

    def _find_made(self, caller: Caller, connector_id: str) -> VersionedConnector | None:
        connector = self._store.find(caller.account_id, connector_id)
        version = None if connector is None else self._store.find_version(connector_id, 1)
        if connector is None or connector.state is ConnectorState.DELETING or version is None:
            return None
        return VersionedConnector(connector, version)

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

    def get(self, caller: Caller, name: ConnectorName) -> FoundConnector:
        """Return a connector, or one version of it.

        Raises:
            NotFoundError: there is none.
        """
        return self._finder.find(caller, name)

    def list_connectors(self, caller: Caller, asked: ListConnectors) -> Page[Connector]:
        """Return connectors, newest first.

        Raises:
            ValidationError: the token is not one of this list's.
        """
        limit = min(asked.page.limit, PAGE_MAX)
        after = self._page_tokens.open_moment(_CONNECTORS, asked.page.token)
        found = self._store.list_page(caller.account_id, limit + 1, after, asked.state)
        page, following = found[:limit], None
        if len(found) > limit:
            following = self._page_tokens.seal(_CONNECTORS, [page[-1].created_at.timestamp(), page[-1].id])
        return Page(page, following)

    def list_versions(self, caller: Caller, asked: ListConnectorVersions) -> Page[VersionedConnector]:
        """Return versions, newest first; a token names the last version that was seen.

        Raises:
            NotFoundError: there is no such connector.
            ValidationError: the token is not one of this list's.
        """
        connector, token = self._finder.find(caller, asked.connector).connector, asked.page.token
        before = None if token is None else int(self._page_tokens.open(_VERSIONS, token)[0])
        found = [
            version
            for version in self._store.list_versions(connector.id)
            if (before is None or version.version < before) and asked.state in (None, version.state)
        ]
        page, following = found[: asked.page.limit], None
        if len(found) > len(page):
            following = self._page_tokens.seal(_VERSIONS, [page[-1].version])
        return Page([VersionedConnector(connector, version) for version in page], following)

    async def update(self, caller: Caller, asked: UpdateConnector) -> VersionedConnector:
        """Make a new version, which counts when its subnets and groups have been looked up.

        Raises:
            ValidationError: a version was named, or the configuration is not possible here.
            NotFoundError: there is no such connector.
            ConflictError: it is not ACTIVE, an update is under way, or the token was used otherwise.
            QuotaExceededError: it has as many versions as it may have.
        """
        connector = self._find_whole(caller, asked.connector)
        earlier = find_made(self._client_tokens, caller, asked.request, partial(self._find_updated, connector))
        if earlier is not None:
            return earlier
        if CONNECTOR_VERDICTS[connector.state, ConnectorAction.UPDATE] is not Verdict.DO:
            raise _busy(connector)
        latest = self._finder.latest(connector)
        assert latest is not None
        configuration = asked.configuration or latest.configuration
        role = latest.operator_role if asked.operator_role is None else asked.operator_role
        check_configuration(configuration)
        now = datetime.now(UTC)
        if (configuration, role) == (latest.configuration, latest.operator_role):
            self._store.note_unchanged(connector.id, UNCHANGED_REASON, now)
            return self._as_it_is(connector, latest)
        version = _new_version(connector.id, self._next_number(connector), configuration, role, now)
        if not self._store.begin_update(version, note_made(caller, asked.request, f"{connector.id}/{version.version}")):
            raise _busy(connector)
        self._in_background(connector, self._finish_update(connector, version))
        return self._as_it_is(connector, version)

    def _find_whole(self, caller: Caller, name: ConnectorName) -> Connector:
        found = self._finder.find(caller, name)
        if found.named is not None:
            raise ValidationError("A version cannot be updated: name the network connector without one")
        return found.connector

    def _next_number(self, connector: Connector) -> int:
        versions = self._store.list_versions(connector.id)
        if len(versions) >= VERSIONS_MAX:
            raise QuotaExceededError(
                f"The network connector has {VERSIONS_MAX} versions, which is the most; delete some that are not used"
            )
        return versions[0].version + 1

    def _find_updated(self, connector: Connector, made: str) -> VersionedConnector | None:
        """Return the version that an earlier request made, unless it was one of a connector of this name before."""
        connector_id, _, number = made.rpartition("/")
        version = self._store.find_version(connector.id, int(number))
        is_of_it = connector_id in (connector.id, "")  # servers of before noted the number alone
        if version is None or connector.state is ConnectorState.DELETING or not is_of_it:
            return None
        return VersionedConnector(connector, version)

    def _as_it_is(self, connector: Connector, version: ConnectorVersion) -> VersionedConnector:
        return VersionedConnector(self._store.find(connector.account_id, connector.id) or connector, version)

    async def _finish_update(self, connector: Connector, version: ConnectorVersion) -> None:
        problem = self._find_problem(version)
        await until_written(
            lambda: self._store.finish_update(connector.id, version.version, problem, datetime.now(UTC)),
            f"the update of {connector.arn}",
        )
        await self._on_change(connector.arn)

    async def delete(self, caller: Caller, name: ConnectorName) -> VersionedConnector:
        """Delete the whole, or one version that counts no more; return what is deleted.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is the latest version, or something is under way.
        """
        found = self._finder.find(caller, name)
        connector = found.connector
        if found.named is not None:
            return self._delete_version(connector, found.named)
        match CONNECTOR_VERDICTS[connector.state, ConnectorAction.DELETE]:
            case Verdict.DO:
                self._store.begin_to_delete(connector.id, datetime.now(UTC))
                self._in_background(connector, self._remove(connector))
            case Verdict.CONFLICT:
                raise _busy(connector)
        assert found.effective is not None
        return VersionedConnector(connector, found.effective)

    def _delete_version(self, connector: Connector, version: ConnectorVersion) -> VersionedConnector:
        if version.version == connector.latest_version:
            raise ConflictError("The latest version cannot be deleted; delete the network connector instead")
        if version.state is ConnectorState.PENDING:
            raise _busy(connector)
        self._store.remove_version(connector.id, version.version)
        return VersionedConnector(connector, version)

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

    def _in_background(self, connector: Connector, work: Coroutine[None, None, None]) -> None:
        self._background.start(work, f"a change of {connector.arn}")

    async def close(self) -> None:
        """Wait for what is under way; what takes long is finished by the next server."""
        await self._background.close(CHANGES_WITHIN_S)


def _new_version(
    connector_id: str, number: int, configuration: VpcEgress, operator_role: str, now: datetime
) -> ConnectorVersion:
    state, reason = ConnectorState.PENDING, INITIAL_REASON if number == 1 else None
    return ConnectorVersion(connector_id, number, state, reason, None, configuration, operator_role, now)


def _busy(connector: Connector) -> ConflictError:
    if connector.state is ConnectorState.ACTIVE:
        return ConflictError(f"An update is in progress for the network connector: {connector.arn}")
    return ConflictError(f"The network connector {connector.arn} is in state {connector.state}; wait until it settles")
