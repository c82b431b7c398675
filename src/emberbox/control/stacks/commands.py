"""What stacks are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    """What a stack is asked to be.

    Attributes:
        body: the template's text; None where it is elsewhere.
        url: of an object in S3 with the template.
        keep_template: the stack's own stays.
        parameters: values by name.
        kept: names of parameters that stay.
        capabilities: that are acknowledged.
        role_arn: the service role; None for the one that the stack has.
        tags: of the stack; None for those that it has.
        notification_arns: None for those that it has.
    """

    body: str | None = None
    url: str | None = None
    keep_template: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    capabilities: tuple[str, ...] = ()
    role_arn: str | None = None
    tags: Mapping[str, str] | None = None
    notification_arns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CreateStack:
    """Asks for a stack; `on_failure` is ROLLBACK, DELETE or DO_NOTHING."""

    name: str
    shape: ShapeRequest
    on_failure: str = "ROLLBACK"
    is_protected: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateStack:
    """Asks for a change of a stack."""

    name: str
    shape: ShapeRequest
    disable_rollback: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class RollbackStack:
    """Asks for what has failed, and was left as it was, to be undone."""

    name: str
    role_arn: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteStack:
    """Asks for a stack's end; `retain` names resources that stay."""

    name: str
    retain: tuple[str, ...] = ()
    role_arn: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class CreateChangeSet:
    """Asks what a stack would become; `kind` is CREATE or UPDATE."""

    stack_name: str
    name: str
    shape: ShapeRequest
    kind: str = "UPDATE"
    description: str | None = None
    on_failure: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class ExecuteChangeSet:
    """Asks for a change set to be carried out."""

    name: str
    stack_name: str | None = None
    disable_rollback: bool = False
    token: str | None = None
