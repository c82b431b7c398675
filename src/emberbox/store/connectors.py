"""Queries about network connectors and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.connectors import Connector, ConnectorVersion, VpcEgress
from emberbox.model.states import CONNECTOR_TRANSITIONS, ConnectorState, UpdateStatus
from emberbox.store.client_tokens import ClientToken, insert_token
from emberbox.store.database import Database
from emberbox.store.images import Place
from emberbox.store.schema import connector_versions, connectors

Problem = tuple[str, str]
"""Why something failed: the code of the service model, and a sentence."""


def _connector(row: Row[Any]) -> Connector:
    values = dict(row._mapping)
    status = values["last_update_status"]
    states = {"state": ConnectorState(values["state"]), "last_update_status": status and UpdateStatus(status)}
    return Connector(**values | states)


def _version(row: Row[Any]) -> ConnectorVersion:
    values = dict(row._mapping)
    read = {"state": ConnectorState(values["state"]), "configuration": read_configuration(values["configuration"])}
    return ConnectorVersion(**values | read)


def read_configuration(stored: Mapping[str, Any]) -> VpcEgress:  # Any: JSON
    """Return the configuration that a column holds; there it has the form of AWS's requests."""
    vpc = stored["VpcEgressConfiguration"]
    return VpcEgress(
        subnet_ids=_tuple(vpc.get("SubnetIds")),
        security_group_ids=_tuple(vpc.get("SecurityGroupIds")),
        network_protocol=vpc.get("NetworkProtocol"),
        compute_types=_tuple(vpc.get("AssociatedComputeResourceTypes")),
        elastic_ip=(vpc.get("ElasticIpConfiguration") or {}).get("Type"),
    )


def _tuple(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)


def write_configuration(configuration: VpcEgress) -> dict[str, Any]:  # Any: JSON
    """Return what a column holds of a configuration: what was not stated is left out."""
    vpc = {
        "SubnetIds": configuration.subnet_ids,
        "SecurityGroupIds": configuration.security_group_ids,
        "NetworkProtocol": configuration.network_protocol,
        "AssociatedComputeResourceTypes": configuration.compute_types,
        "ElasticIpConfiguration": configuration.elastic_ip and {"Type": configuration.elastic_ip},
    }
    return {"VpcEgressConfiguration": {name: value for name, value in vpc.items() if value is not None}}


def _sources(state: ConnectorState) -> list[ConnectorState]:
    return [source for source, targets in CONNECTOR_TRANSITIONS.items() if state in targets]


def _settle_version(
    connection: Connection, connector_id: str, version: int, problem: Problem | None, now: datetime
) -> ConnectorState | None:
    """Move a PENDING version to ACTIVE or FAILED; None when it was not PENDING."""
    state = ConnectorState.ACTIVE if problem is None else ConnectorState.FAILED
    row = connector_versions.c
    statement = update(connector_versions).where(
        row.connector_id == connector_id, row.version == version, row.state.in_(_sources(state))
    )
    done = connection.execute(statement.values(state=state, updated_at=now, **_reason(problem)))
    return state if done.rowcount == 1 else None


def _reason(problem: Problem | None) -> dict[str, str]:
    """Return the columns that tell a problem; without one they stay as they are, as on AWS."""
    return {} if problem is None else {"state_reason_code": problem[0], "state_reason": problem[1]}


class ConnectorStore:
    """Network connectors in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, connector: Connector, version: ConnectorVersion, token: ClientToken | None) -> bool:
        """Store a new connector with its first version; False when the name or the token is taken."""
        try:
            with self._database.transaction() as connection:
                if token is not None:
                    insert_token(connection, token)
                connection.execute(insert(connectors).values(**_columns(connector)))
                connection.execute(insert(connector_versions).values(**_version_columns(version)))
        except IntegrityError:
            return False
        return True

    def count(self, account_id: str) -> int:
        """Return how many connectors an account has."""
        query = select(func.count()).select_from(connectors).where(connectors.c.account_id == account_id)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def find(self, account_id: str, key: str) -> Connector | None:
        """Return an account's connector by its id or its name."""
        query = select(connectors).where(
            connectors.c.account_id == account_id, or_(connectors.c.id == key, connectors.c.name == key)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _connector(row)

    def find_by_arn(self, arn: str) -> Connector | None:
        """Return the connector of an ARN without a version."""
        with self._database.reading() as connection:
            row = connection.execute(select(connectors).where(connectors.c.arn == arn)).first()
        return None if row is None else _connector(row)

    def list_page(
        self, account_id: str, limit: int, after: Place | None, state: ConnectorState | None = None
    ) -> list[Connector]:
        """Return connectors, newest first, after a place."""
        query = select(connectors).where(connectors.c.account_id == account_id)
        if state is not None:
            query = query.where(connectors.c.state == state)
        if after is not None:
            moment, last = after
            same = and_(connectors.c.created_at == moment, connectors.c.id < last)
            query = query.where(or_(connectors.c.created_at < moment, same))
        query = query.order_by(connectors.c.created_at.desc(), connectors.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_connector(row) for row in connection.execute(query)]

    def list_unsettled(self) -> list[Connector]:
        """Return every connector that is being made, changed or deleted."""
        query = select(connectors).where(
            or_(
                connectors.c.state.in_([ConnectorState.PENDING, ConnectorState.DELETING]),
                connectors.c.last_update_status == UpdateStatus.IN_PROGRESS,
            )
        )
        with self._database.reading() as connection:
            return [_connector(row) for row in connection.execute(query)]

    def find_version(self, connector_id: str, version: int) -> ConnectorVersion | None:
        """Return one version."""
        return next((found for found in self.list_versions(connector_id) if found.version == version), None)

    def list_versions(self, connector_id: str) -> list[ConnectorVersion]:
        """Return all versions, newest first."""
        query = select(connector_versions).where(connector_versions.c.connector_id == connector_id)
        with self._database.reading() as connection:
            return [_version(row) for row in connection.execute(query.order_by(connector_versions.c.version.desc()))]

    def settle(self, connector_id: str, problem: Problem | None, now: datetime) -> None:
        """Make a new connector ACTIVE, or FAILED with a reason."""
        with self._database.transaction() as connection:
            state = _settle_version(connection, connector_id, 1, problem, now)
            if state is not None:
                values = {"state": state, "updated_at": now, **_reason(problem)}
                connection.execute(update(connectors).where(connectors.c.id == connector_id).values(**values))

    def begin_update(self, version: ConnectorVersion, token: ClientToken | None) -> bool:
        """Store a new version; False when the connector is not ACTIVE or another update is under way."""
        statement = update(connectors).where(
            connectors.c.id == version.connector_id,
            connectors.c.state == ConnectorState.ACTIVE,
            or_(connectors.c.last_update_status.is_(None), connectors.c.last_update_status != UpdateStatus.IN_PROGRESS),
        )
        started = {
            "last_update_status": UpdateStatus.IN_PROGRESS,
            "last_update_reason": None,
            "last_update_reason_code": None,
            "updated_at": version.updated_at,
        }
        try:
            with self._database.transaction() as connection:
                if connection.execute(statement.values(**started)).rowcount != 1:
                    return False
                if token is not None:
                    insert_token(connection, token)
                connection.execute(insert(connector_versions).values(**_version_columns(version)))
        except IntegrityError:
            return False
        return True

    def finish_update(self, connector_id: str, version: int, problem: Problem | None, now: datetime) -> None:
        """Let a new version count, or say why it does not: the one before goes on counting."""
        code, reason = problem or (None, None)
        with self._database.transaction() as connection:
            state = _settle_version(connection, connector_id, version, problem, now)
            if state is None:
                return
            values: dict[str, Any] = {
                "last_update_status": UpdateStatus.FAILED if problem else UpdateStatus.SUCCESSFUL,
                "last_update_reason": reason,
                "last_update_reason_code": code,
                "updated_at": now,
            }
            if problem is None:
                values["latest_version"] = version
            connection.execute(update(connectors).where(connectors.c.id == connector_id).values(**values))

    def note_unchanged(self, connector_id: str, reason: str, now: datetime) -> None:
        """Say that an update changed nothing."""
        values = {
            "last_update_status": UpdateStatus.SUCCESSFUL,
            "last_update_reason": reason,
            "last_update_reason_code": None,
            "updated_at": now,
        }
        with self._database.transaction() as connection:
            connection.execute(update(connectors).where(connectors.c.id == connector_id).values(**values))

    def begin_to_delete(self, connector_id: str, now: datetime) -> bool:
        """Make a connector DELETING; False when the transition table does not allow it."""
        statement = update(connectors).where(
            connectors.c.id == connector_id, connectors.c.state.in_(_sources(ConnectorState.DELETING))
        )
        with self._database.transaction() as connection:
            done = connection.execute(statement.values(state=ConnectorState.DELETING, updated_at=now))
        return done.rowcount == 1

    def fail_deletion(self, connector_id: str, problem: Problem, now: datetime) -> None:
        """Say that a connector could not be deleted; deleting it again is allowed."""
        values = {"state": ConnectorState.DELETE_FAILED, **_reason(problem)}
        statement = update(connectors).where(
            connectors.c.id == connector_id, connectors.c.state.in_(_sources(ConnectorState.DELETE_FAILED))
        )
        with self._database.transaction() as connection:
            connection.execute(statement.values(**values, updated_at=now))

    def remove(self, connector_id: str) -> None:
        """Remove a connector with all its versions."""
        with self._database.transaction() as connection:
            connection.execute(delete(connector_versions).where(connector_versions.c.connector_id == connector_id))
            connection.execute(delete(connectors).where(connectors.c.id == connector_id))

    def remove_version(self, connector_id: str, version: int) -> None:
        """Remove one version."""
        row = connector_versions.c
        statement = delete(connector_versions).where(row.connector_id == connector_id, row.version == version)
        with self._database.transaction() as connection:
            connection.execute(statement)

    def set_tags(self, connector_id: str, tags: Mapping[str, str]) -> None:
        """Store the whole set of a connector's tags."""
        with self._database.transaction() as connection:
            connection.execute(update(connectors).where(connectors.c.id == connector_id).values(tags=dict(tags)))


def _columns(record: Connector | ConnectorVersion) -> dict[str, Any]:  # Any: a column's value
    return {name: getattr(record, name) for name in record.__slots__}


def _version_columns(version: ConnectorVersion) -> dict[str, Any]:  # Any: as before
    return _columns(version) | {"configuration": write_configuration(version.configuration)}
