"""Stacks, their events and change sets, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from emberbox.model.iam.access import SessionTag
from emberbox.model.stacks.states import ChangeSetStatus, ExecutionStatus, ResourceStatus, StackStatus
from emberbox.model.stacks.template import Values


@dataclass(frozen=True, slots=True)
class Acting:
    """Who a stack's work is done as: nothing secret, looked up anew for every step.

    Attributes:
        kind: user or role.
        name: the user's or the role's.
        session_name: of an assumed role.
        issued_by: the access key that it ends with; empty where there is none.
        source_ip: where the request came from.
        is_service_role: it is a role that was passed, and not whoever asked.
        tags: of the session that asked.
        issued: when that session began, in seconds since 1970; None where an access key asked.
    """

    kind: str
    name: str
    session_name: str
    issued_by: str
    source_ip: str
    is_service_role: bool = False
    tags: Mapping[str, SessionTag] = field(default_factory=dict)
    issued: float | None = None


@dataclass(frozen=True, slots=True)
class StackResource:
    """A resource of a stack.

    Attributes:
        logical_id: its name in the template.
        type: such as AWS::IAM::Role.
        status: of its last change.
        token: unique to its making: names and client tokens come from it.
        updated_at: seconds since 1970.
        physical_id: what `Ref` means; None until it is made.
        reason: why, where its status is a failure.
        properties: as it is, with all functions resolved.
        wanted: what it is being changed to; None where nothing is under way.
        attributes: what `Fn::GetAtt` means.
        needs: logical ids of those that it refers to.
        deletion_policy: Delete, Retain or RetainExceptOnCreate.
        replace_policy: the same for when it is replaced.
        tags: the stack's, when it was last made or changed; None where an earlier server did not write them down.
    """

    logical_id: str
    type: str
    status: ResourceStatus
    token: str
    updated_at: float
    physical_id: str | None = None
    reason: str | None = None
    properties: Values = field(default_factory=dict)
    wanted: Values | None = None
    attributes: Values = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    replace_policy: str = "Delete"
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StackOutput:
    """An output of a stack; `export` is the name by which other stacks find it."""

    key: str
    value: str
    description: str | None = None
    export: str | None = None


@dataclass(frozen=True, slots=True)
class StackShape:
    """What a stack is made from.

    Attributes:
        template: its text.
        parameters: their texts.
        stored: what those stand for that name stored parameters.
        tags: of the stack.
        capabilities: that were acknowledged.
        role_arn: the service role; None for the rights of whoever asked.
        notification_arns: as given; nobody is notified.
        description: the template's.
    """

    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    role_arn: str | None = None
    notification_arns: tuple[str, ...] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What a stack was before an update: what a rollback leads back to."""

    shape: StackShape
    resources: Mapping[str, StackResource]
    outputs: tuple[StackOutput, ...]
    imports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What is under way with a stack, or was when it last failed.

    Attributes:
        acting: who it is done as.
        token: the request's own; events show it.
        on_failure: ROLLBACK, DELETE or DO_NOTHING.
        before: of an update.
        leftovers: what is deleted when all else is done.
        retain: logical ids that a deletion leaves alone.
    """

    acting: Acting
    token: str | None = None
    on_failure: str = "ROLLBACK"
    before: Before | None = None
    leftovers: tuple[StackResource, ...] = ()
    retain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack; `id` is its ARN, `deleted_at` is None while it lives."""

    id: str
    account_id: str
    name: str
    status: StackStatus
    created_at: datetime
    shape: StackShape
    reason: str | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    resources: Mapping[str, StackResource] = field(default_factory=dict)
    outputs: tuple[StackOutput, ...] = ()
    imports: tuple[str, ...] = ()
    work: Work | None = None
    change_set_id: str | None = None
    disable_rollback: bool = False
    is_protected: bool = False


@dataclass(frozen=True, slots=True)
class StackEvent:
    """A change of a stack or of one of its resources; the stack's own have its name as their logical id."""

    id: str
    stack_id: str
    stack_name: str
    logical_id: str
    physical_id: str | None
    type: str
    status: str
    reason: str | None
    happened_at: datetime
    token: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What an update would do with a resource.

    Attributes:
        action: Add, Modify or Remove.
        logical_id: its name in the template.
        type: such as AWS::IAM::Role.
        physical_id: where it exists.
        replacement: True, False or Conditional; None where nothing is modified.
        names: of the properties that differ; `Tags` also where the stack's do.
    """

    action: str
    logical_id: str
    type: str
    physical_id: str | None = None
    replacement: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What a stack could become."""

    id: str
    account_id: str
    name: str
    stack_id: str
    stack_name: str
    kind: str
    status: ChangeSetStatus
    execution: ExecutionStatus
    created_at: datetime
    shape: StackShape
    reason: str | None = None
    description: str | None = None
    changes: tuple[PlannedChange, ...] = ()
    on_failure: str | None = None
    token: str | None = None


def to_json(value: Any) -> Any:
    """Return what of a record is stored as JSON: plain values, moments excepted."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def resource_from_json(stored: Values) -> StackResource:
    """Return a resource that was stored."""
    return StackResource(**{**stored, "status": ResourceStatus(stored["status"]), "needs": tuple(stored["needs"])})


def resources_from_json(stored: Values) -> dict[str, StackResource]:
    """Return resources that were stored."""
    return {name: resource_from_json(one) for name, one in stored.items()}


def shape_from_json(stored: Values) -> StackShape:
    """Return a shape that was stored."""
    tuples = {name: tuple(stored[name]) for name in ("capabilities", "notification_arns")}
    return StackShape(**{**stored, **tuples})


def outputs_from_json(stored: list[Values]) -> tuple[StackOutput, ...]:
    """Return outputs that were stored."""
    return tuple(StackOutput(**one) for one in stored)


def work_from_json(stored: Values | None) -> Work | None:
    """Return work that was stored."""
    if stored is None:
        return None
    before = stored["before"]
    return Work(
        acting=_acting_from_json(stored["acting"]),
        token=stored["token"],
        on_failure=stored["on_failure"],
        before=None if before is None else _before_from_json(before),
        leftovers=tuple(resource_from_json(one) for one in stored["leftovers"]),
        retain=tuple(stored["retain"]),
    )


def _acting_from_json(stored: Values) -> Acting:
    tags = {name: SessionTag(*tag) for name, tag in stored.get("tags", {}).items()}
    return Acting(**{**stored, "tags": tags})


def _before_from_json(stored: Values) -> Before:
    return Before(
        shape=shape_from_json(stored["shape"]),
        resources=resources_from_json(stored["resources"]),
        outputs=outputs_from_json(stored["outputs"]),
        imports=tuple(stored["imports"]),
    )
