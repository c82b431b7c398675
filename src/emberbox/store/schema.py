"""The tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    null,
    true,
)
from sqlalchemy.engine import Dialect

from emberbox.model.clock import Instant


class Moment(TypeDecorator[datetime]):
    """A point in time, stored as seconds since 1970 so that every database compares it alike."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        """Store."""
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Load."""
        return None if value is None else datetime.fromtimestamp(value, UTC)


class Count(TypeDecorator[Instant]):
    """A moment from which time is counted."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Instant | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Store."""
        return None if value is None else value.to_json()

    def process_result_value(self, value: Any, dialect: Dialect) -> Instant | None:  # noqa: ARG002
        """Load."""
        return None if value is None else Instant.from_json(value)


metadata = MetaData()
log_metadata = MetaData()

images = Table(
    "images",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("name", String(64), nullable=False),
    Column("arn", String(256), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("latest_active_version", String(16)),
    Column("latest_failed_version", String(16)),
    Column("tags", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

versions = Table(
    "image_versions",
    metadata,
    Column("image_id", String(36), primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("status", String(8), nullable=False),
    Column("request", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

builds = Table(
    "builds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("image_id", String(36), nullable=False, index=True),
    Column("version", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_reason", Text),
    Column("sizes", JSON),
    Column("created_at", Moment, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("image_id", String(36), primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("microvm_id", String(64), nullable=False, index=True),
)

microvms = Table(
    "microvms",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("endpoint_label", String(36), nullable=False, unique=True),
    Column("image_id", String(36), nullable=False, index=True),
    Column("image_arn", String(256), nullable=False),
    Column("image_version", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_reason", Text),
    Column("request", JSON, nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("terminated_at", Moment),
    Column("started", Count, nullable=False),
    Column("suspended", Count),
    Column("own_base", Boolean, nullable=False, server_default=false()),
    Column("host", String(64), nullable=False, server_default="local"),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("forked_from", String(64), server_default=null()),
    Index("microvms_in_order", "account_id", "started_at", "id"),
)

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", String(12), nullable=False, index=True),
    Column("template", String(128), nullable=False),
    Column("timeout_s", Integer, nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("environment", JSON(none_as_null=True)),
    Column("pauses_itself", Boolean, nullable=False),
    Column("resumes_itself", Boolean, nullable=False),
    Column("is_private", Boolean, nullable=False),
    Column("ends_at", Moment, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("name", String(128), nullable=False, server_default=""),
    Column("user", String(64), nullable=False, server_default=""),
    Column("moves_with_use", Boolean, nullable=False, server_default=false()),
    Column("deletes_after_s", Integer, nullable=False, server_default="0"),
)

template_builds = Table(
    "template_builds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("image_id", String(36), nullable=False),
    Column("name", String(64), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("recipe", JSON(none_as_null=True)),
    Column("version", String(16)),
    Column("reason", Text),
    Column("failed_step", String(16), nullable=False, server_default=""),
    Index("template_builds_of_names", "account_id", "name", "created_at"),
    Index("template_builds_of_versions", "image_id", "version"),
)

template_names = Table(
    "template_names",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("image_id", String(36), primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("build_id", String(36), nullable=False),
    Column("assigned_at", Moment, nullable=False),
    Column("is_snapshot", Boolean, nullable=False),
)

connectors = Table(
    "network_connectors",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("name", String(64), nullable=False),
    Column("arn", String(140), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("state_reason", Text),
    Column("state_reason_code", String(64)),
    Column("latest_version", Integer, nullable=False),
    Column("last_update_status", String(16)),
    Column("last_update_reason", Text),
    Column("last_update_reason_code", String(64)),
    Column("tags", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index("network_connectors_by_name", "account_id", "name", unique=True),
)

connector_versions = Table(
    "network_connector_versions",
    metadata,
    Column("connector_id", String(40), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("state_reason", Text),
    Column("state_reason_code", String(64)),
    Column("configuration", JSON, nullable=False),
    Column("operator_role", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("account_id", String(12), nullable=False),
    Column("microvm_id", String(64), nullable=False),
    Column("from_state", String(16)),
    Column("state", String(16), nullable=False),
    Column("actor", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("happened_at", Moment, nullable=False, index=True),
    Index("events_of_accounts", "account_id", "id"),
    Index("events_of_microvms", "microvm_id", "id"),
)

client_tokens = Table(
    "client_tokens",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("operation", String(64), primary_key=True),
    Column("token", String(128), primary_key=True),
    Column("parameters", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False, index=True),
    Column("user_name", String(64), nullable=False),
    Column("secret", Text, nullable=False),
    Column("status", String(8), nullable=False),
    Column("created_at", Moment, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("principal", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

roles = Table(
    "roles",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("description", Text, nullable=False),
    Column("s3_prefixes", JSON(none_as_null=True)),
    Column("credentials", Text),
    Column("updated_at", Moment, nullable=False),
    Column("path", String(512), nullable=False, server_default="/"),
    Column("trust_document", Text, nullable=False, server_default=""),  # empty: whoever may assume it
    Column("max_session_s", Integer, nullable=False, server_default="43200"),
    Column("tags", JSON, nullable=False, server_default="{}"),
    Column("created_at", Moment, nullable=False, server_default="0"),  # 0 of earlier releases: it is not known
    Column("defined", Boolean, nullable=False, server_default=true()),
)

managed_policies = Table(
    "managed_policies",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("path", String(512), nullable=False),
    Column("description", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
)

attached_policies = Table(
    "attached_policies",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("role_name", String(64), primary_key=True),
    Column("policy_arn", String(700), primary_key=True),
)

stacks = Table(
    "stacks",
    metadata,
    Column("id", String(256), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("name", String(128), nullable=False),
    Column("live_name", String(128)),  # none of a deleted stack, whose name may be used again
    Column("status", String(64), nullable=False),
    Column("template", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment),
    Column("deleted_at", Moment),
    Index("stacks_by_name", "account_id", "live_name", unique=True),
)

stack_events = Table(
    "stack_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("stack_id", String(256), nullable=False),
    Column("content", JSON, nullable=False),
    Column("happened_at", Moment, nullable=False),
    Index("stack_events_in_order", "stack_id", "number"),
)

change_sets = Table(
    "change_sets",
    metadata,
    Column("id", String(320), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("stack_id", String(256), nullable=False),
    Column("name", String(128), nullable=False),
    Column("template", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("change_sets_by_name", "stack_id", "name", unique=True),
)

stored_parameters = Table(
    "stored_parameters",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(2048), primary_key=True),
    Column("type", String(16), nullable=False),
    Column("value", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

log_groups = Table(
    "log_groups",
    log_metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(512), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("retention_days", Integer),
)

log_events = Table(
    "log_events",
    log_metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("account_id", String(12), nullable=False),
    Column("log_group", String(512), nullable=False),
    Column("log_stream", String(512), nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Index("log_events_by_stream", "account_id", "log_group", "log_stream", "id"),
)
