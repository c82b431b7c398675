"""CloudFormation: change sets, and the templates of stacks and change sets."""

from __future__ import annotations

import json
from typing import Final

from emberbox.control.stacks.change_sets import ChangeSetService
from emberbox.control.stacks.commands import CreateChangeSet, ExecuteChangeSet
from emberbox.edges.aws.operations.cloudformation_words import (
    SHAPE,
    disables_rollback,
    read_shape,
    show_parameters,
    show_tags,
)
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.records import ChangeSet, PlannedChange
from emberbox.model.stacks.serverless import transform

_NAMES: Final = ("ChangeSetName", "StackName")


def handlers(change_sets: ChangeSetService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def create(caller: Caller, parameters: Parameters) -> Members:
        made = await change_sets.create(caller, read_create(parameters))
        return {"Id": made.id, "StackId": made.stack_id}

    async def describe(caller: Caller, parameters: Parameters) -> Members:
        return show_change_set(change_sets.get(caller, parameters["ChangeSetName"], parameters.get("StackName")))

    async def execute(caller: Caller, parameters: Parameters) -> Members:
        asked = ExecuteChangeSet(
            name=parameters["ChangeSetName"],
            stack_name=parameters.get("StackName"),
            disable_rollback=parameters.get("DisableRollback", False),
            token=parameters.get("ClientRequestToken"),
        )
        change_sets.execute(caller, asked)
        return {}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        change_sets.delete(caller, parameters["ChangeSetName"], parameters.get("StackName"))
        return {}

    async def list_sets(caller: Caller, parameters: Parameters) -> Members:
        found = change_sets.list_change_sets(caller, parameters["StackName"])
        return {"Summaries": [show_summary(one) for one in found]}

    async def template(caller: Caller, parameters: Parameters) -> Members:
        name, stack = parameters.get("ChangeSetName"), parameters.get("StackName")
        text = change_sets.find_template(caller, name, stack)
        if parameters.get("TemplateStage") != "Original":
            text = processed_text(text)
        return {"TemplateBody": text, "StagesAvailable": ["Original", "Processed"]}

    made = ("ChangeSetType", "Description", "OnStackFailure", "ClientToken", "IncludeNestedStacks", "DeploymentConfig")
    return {
        "CreateChangeSet": offer(create, *_NAMES, *SHAPE, "UsePreviousTemplate", *made, "ImportExistingResources"),
        "DescribeChangeSet": offer(describe, *_NAMES, "NextToken", "IncludePropertyValues"),
        "ExecuteChangeSet": offer(execute, *_NAMES, "DisableRollback", "ClientRequestToken"),
        "DeleteChangeSet": offer(delete, *_NAMES),
        "ListChangeSets": offer(list_sets, "StackName", "NextToken"),
        "GetTemplate": offer(template, *_NAMES, "TemplateStage"),
    }


def processed_text(text: str) -> str:
    """Return a template's text as it is after its transforms: as JSON where it has any, as on AWS."""
    document = read_values(text)
    after = transform(document)
    return text if after is document else json.dumps(after)


def read_create(parameters: Parameters) -> CreateChangeSet:
    """Return what CreateChangeSet asks for.

    Raises:
        ValidationError: it asks for an import of resources.
    """
    kind = parameters.get("ChangeSetType", "UPDATE")
    if kind not in ("CREATE", "UPDATE"):
        raise ValidationError(f"ChangeSetType {kind} is not offered by Emberbox; CREATE and UPDATE are.")
    return CreateChangeSet(
        stack_name=parameters["StackName"],
        name=parameters["ChangeSetName"],
        shape=read_shape(parameters),
        kind=kind,
        description=parameters.get("Description"),
        on_failure=parameters.get("OnStackFailure") or ("DO_NOTHING" if disables_rollback(parameters) else None),
        token=parameters.get("ClientToken"),
    )


def show_summary(found: ChangeSet) -> Members:
    """Return a change set as ListChangeSets does."""
    return {
        "StackId": found.stack_id,
        "StackName": found.stack_name,
        "ChangeSetId": found.id,
        "ChangeSetName": found.name,
        "ExecutionStatus": found.execution,
        "Status": found.status,
        "StatusReason": found.reason,
        "CreationTime": found.created_at,
        "Description": found.description,
        "IncludeNestedStacks": False,
    }


def show_change_set(found: ChangeSet) -> Members:
    """Return a change set as DescribeChangeSet does."""
    return {
        **show_summary(found),
        "Parameters": show_parameters(found.shape),
        "NotificationARNs": list(found.shape.notification_arns),
        "RollbackConfiguration": {},
        "Capabilities": list(found.shape.capabilities),
        "Tags": show_tags(found.shape),
        "Changes": [show_change(change) for change in found.changes],
        "OnStackFailure": found.on_failure,
    }


def show_change(change: PlannedChange) -> Members:
    """Return a change of a resource; tags are an attribute of their own there, the resource's as the stack's."""
    targets = [
        {"Attribute": "Tags"} if name == "Tags" else {"Attribute": "Properties", "Name": name} for name in change.names
    ]
    details = [{"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"} for target in targets]
    return {
        "Type": "Resource",
        "ResourceChange": {
            "Action": change.action,
            "LogicalResourceId": change.logical_id,
            "PhysicalResourceId": change.physical_id,
            "ResourceType": change.type,
            "Replacement": change.replacement,
            "Scope": sorted({target["Attribute"] for target in targets}),
            "Details": details,
        },
    }
