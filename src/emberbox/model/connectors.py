"""Network connectors as values: what they are asked to be, how they are named, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from emberbox.model.states import ConnectorState, UpdateStatus


@dataclass(frozen=True, slots=True)
class VpcEgress:
    """Which of the operator's networks a connector leads to, as it was asked for; None is what was not stated.

    Args:
        subnet_ids: what its guests reach.
        security_group_ids: what of that is left; none, stated or not, leave all of it.
        network_protocol: `IPv4` or `DualStack`; guests have IPv4 only.
        compute_types: what may use it.
        elastic_ip: the kind of fixed public address.
    """

    subnet_ids: tuple[str, ...] | None = None
    security_group_ids: tuple[str, ...] | None = None
    network_protocol: str | None = None
    compute_types: tuple[str, ...] | None = None
    elastic_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Connector:
    """A network connector; `latest_version` is the one that counts, `last_update_*` is None before any update."""

    id: str
    account_id: str
    name: str
    arn: str
    state: ConnectorState
    state_reason: str | None
    state_reason_code: str | None
    latest_version: int
    last_update_status: UpdateStatus | None
    last_update_reason: str | None
    last_update_reason_code: str | None
    tags: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ConnectorVersion:
    """One version of a network connector; its `configuration` never changes."""

    connector_id: str
    version: int
    state: ConnectorState
    state_reason: str | None
    state_reason_code: str | None
    configuration: VpcEgress
    operator_role: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ConnectorName:
    """Names an account's connector, or one version of it.

    Args:
        key: its id or its name.
        version: the number of the version, where one is meant.
        named: how it was named, for errors.
    """

    key: str
    version: int | None
    named: str


@dataclass(frozen=True, slots=True)
class VersionedConnector:
    """A connector with one of its versions."""

    connector: Connector
    version: ConnectorVersion


@dataclass(frozen=True, slots=True)
class FoundConnector:
    """A connector as somebody named it.

    Args:
        connector: the whole.
        named: the version that was meant; None where the whole was.
        effective: the version that counts: the one that was meant, else the latest.
    """

    connector: Connector
    named: ConnectorVersion | None
    effective: ConnectorVersion | None
