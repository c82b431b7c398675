"""Stacks in CloudFormation's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from emberbox.control.stacks.commands import ShapeRequest
from emberbox.edges.aws.operations.handler import Members, Parameters
from emberbox.model.stacks.parameters import HIDDEN
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.records import Stack, StackEvent, StackOutput, StackResource, StackShape
from emberbox.model.stacks.template import DeclaredParameter

SHAPE: Final = (
    "TemplateBody", "TemplateURL", "Parameters", "Capabilities", "RoleARN", "Tags", "NotificationARNs",
)  # fmt: skip
"""The parameters that say what a stack is to be."""

_DRIFT: Final = {"StackDriftStatus": "NOT_CHECKED"}


def read_shape(parameters: Parameters) -> ShapeRequest:
    """Return what a stack is asked to be."""
    given = parameters.get("Parameters", ())
    tags = parameters.get("Tags")
    arns = parameters.get("NotificationARNs")
    return ShapeRequest(
        body=parameters.get("TemplateBody"),
        url=parameters.get("TemplateURL"),
        keep_template=parameters.get("UsePreviousTemplate", False),
        parameters={
            one["ParameterKey"]: one.get("ParameterValue", "") for one in given if not one.get("UsePreviousValue")
        },
        kept=frozenset(one["ParameterKey"] for one in given if one.get("UsePreviousValue")),
        capabilities=tuple(parameters.get("Capabilities", ())),
        role_arn=parameters.get("RoleARN"),
        tags=None if tags is None else {tag["Key"]: tag["Value"] for tag in tags},
        notification_arns=None if arns is None else tuple(arns),
    )


def disables_rollback(parameters: Parameters) -> bool | None:
    """Say whether what fails is to stay as it is, which a request can say in two places; None where it says nothing.

    A deployment's mode does not matter: EXPRESS would only mean to wait for less.
    """
    deployment = parameters.get("DeploymentConfig") or {}
    found: bool | None = parameters.get("DisableRollback", deployment.get("DisableRollback"))
    return found


def show_stack(stack: Stack) -> Members:
    """Return a stack as DescribeStacks does."""
    shape = stack.shape
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "ChangeSetId": stack.change_set_id,
        "Description": shape.description,
        "Parameters": show_parameters(shape),
        "CreationTime": stack.created_at,
        "DeletionTime": stack.deleted_at,
        "LastUpdatedTime": stack.updated_at,
        "RollbackConfiguration": {},
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": stack.disable_rollback,
        "NotificationARNs": list(shape.notification_arns),
        "Capabilities": list(shape.capabilities),
        "Outputs": [show_output(output) for output in stack.outputs],
        "RoleARN": shape.role_arn,
        "Tags": show_tags(shape),
        "EnableTerminationProtection": stack.is_protected,
        "DriftInformation": _DRIFT,
    }


def show_summary(stack: Stack) -> Members:
    """Return a stack as ListStacks does."""
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "TemplateDescription": stack.shape.description,
        "CreationTime": stack.created_at,
        "LastUpdatedTime": stack.updated_at,
        "DeletionTime": stack.deleted_at,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DriftInformation": _DRIFT,
    }


def show_parameters(shape: StackShape) -> list[dict[str, Any]]:
    """Return parameters with their values, those apart that nobody is to see."""
    hidden = hidden_names(shape.template)
    return [
        {
            "ParameterKey": name,
            "ParameterValue": HIDDEN if name in hidden else value,
            "ResolvedValue": shape.stored.get(name),
        }
        for name, value in shape.parameters.items()
    ]


def hidden_names(template: str) -> frozenset[str]:
    """Return the names of a template's parameters that nobody is to see."""
    if "NoEcho" not in template:
        return frozenset()
    declared = read_values(template).get("Parameters") or {}
    return frozenset(name for name, one in declared.items() if str(one.get("NoEcho", "")).lower() == "true")


def show_tags(shape: StackShape) -> list[dict[str, str]]:
    """Return a stack's tags as pairs."""
    return [{"Key": key, "Value": value} for key, value in shape.tags.items()]


def show_output(output: StackOutput) -> Members:
    """Return an output."""
    return {
        "OutputKey": output.key,
        "OutputValue": output.value,
        "Description": output.description,
        "ExportName": output.export,
    }


def show_export(stack: Stack, output: StackOutput) -> Members:
    """Return an export."""
    return {"ExportingStackId": stack.id, "Name": output.export, "Value": output.value}


def show_event(event: StackEvent) -> Members:
    """Return an event."""
    return {
        "StackId": event.stack_id,
        "EventId": event.id,
        "StackName": event.stack_name,
        "LogicalResourceId": event.logical_id,
        "PhysicalResourceId": event.physical_id or "",
        "ResourceType": event.type,
        "Timestamp": event.happened_at,
        "ResourceStatus": event.status,
        "ResourceStatusReason": event.reason,
        "ClientRequestToken": event.token,
    }


def show_resource(resource: StackResource) -> Members:
    """Return a resource as DescribeStackResources does."""
    return {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id,
        "ResourceType": resource.type,
        "Timestamp": datetime.fromtimestamp(resource.updated_at, UTC),
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.reason,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def show_declared(declared: DeclaredParameter, *, whole: bool = False) -> Members:
    """Return a parameter that a template declares: as ValidateTemplate does, or with its type and bounds."""
    shown = {
        "ParameterKey": declared.name,
        "DefaultValue": declared.default,
        "NoEcho": declared.no_echo,
        "Description": declared.description,
    }
    if not whole:
        return shown
    allowed = {"AllowedValues": list(declared.allowed_values)} if declared.allowed_values else {}
    return {**shown, "ParameterType": declared.type, "ParameterConstraints": allowed}
