"""CloudFormation: stacks, made, changed, deleted and described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from emberbox.control.requests.paging import PageRequest, PageTokens, cut_page
from emberbox.control.stacks.change_sets import ChangeSetService
from emberbox.control.stacks.commands import CreateStack, DeleteStack, RollbackStack, ShapeRequest, UpdateStack
from emberbox.control.stacks.service import StackService, TemplateSummary
from emberbox.edges.aws.operations import cloudformation_sets
from emberbox.edges.aws.operations.cloudformation_words import (
    SHAPE,
    disables_rollback,
    read_shape,
    show_declared,
    show_event,
    show_export,
    show_resource,
    show_stack,
    show_summary,
)
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError
from emberbox.model.stacks.records import StackResource

_PAGE: Final = 100


def handlers(stacks: StackService, change_sets: ChangeSetService, pages: PageTokens) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""
    return (
        _change_handlers(stacks)
        | _stack_handlers(stacks, pages)
        | _resource_handlers(stacks, pages)
        | _template_handlers(stacks)
        | cloudformation_sets.handlers(change_sets)
    )


def _change_handlers(stacks: StackService) -> dict[str, Handler]:
    async def create(caller: Caller, parameters: Parameters) -> Members:
        return {"StackId": (await stacks.create(caller, read_create(parameters))).id}

    async def update(caller: Caller, parameters: Parameters) -> Members:
        asked = UpdateStack(
            name=parameters["StackName"],
            shape=read_shape(parameters),
            disable_rollback=bool(disables_rollback(parameters)),
            token=parameters.get("ClientRequestToken"),
        )
        return {"StackId": (await stacks.update(caller, asked)).id}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        asked = DeleteStack(
            name=parameters["StackName"],
            retain=tuple(parameters.get("RetainResources", ())),
            role_arn=parameters.get("RoleARN"),
            token=parameters.get("ClientRequestToken"),
        )
        stacks.delete(caller, asked)
        return {}

    async def roll_back(caller: Caller, parameters: Parameters) -> Members:
        asked = RollbackStack(parameters["StackName"], parameters.get("RoleARN"), parameters.get("ClientRequestToken"))
        return {"StackId": stacks.roll_back(caller, asked).id}

    asked = ("DisableRollback", "ClientRequestToken", "DeploymentConfig")
    made = ("OnFailure", "EnableTerminationProtection", *asked)
    return {
        "CreateStack": offer(create, "StackName", *SHAPE, *made),
        "UpdateStack": offer(update, "StackName", *SHAPE, "UsePreviousTemplate", *asked),
        "RollbackStack": offer(roll_back, "StackName", "RoleARN", *asked[1:]),
        "DeleteStack": offer(delete, "StackName", "RetainResources", "RoleARN", *asked[1:]),
    }


def _stack_handlers(stacks: StackService, pages: PageTokens) -> dict[str, Handler]:
    async def describe(caller: Caller, parameters: Parameters) -> Members:
        name = parameters.get("StackName")
        found = stacks.list_stacks(caller) if name is None else [stacks.get(caller, name)]
        return _page(pages, "DescribeStacks", "Stacks", [show_stack(one) for one in found], parameters)

    async def list_stacks(caller: Caller, parameters: Parameters) -> Members:
        wanted = parameters.get("StackStatusFilter")
        found = stacks.list_stacks(caller, deleted_too=True)
        shown = [show_summary(one) for one in found if not wanted or one.status in wanted]
        return _page(pages, "ListStacks", "StackSummaries", shown, parameters)

    async def events(caller: Caller, parameters: Parameters) -> Members:
        page = stacks.events(caller, parameters["StackName"], parameters.get("NextToken"))
        return {"StackEvents": [show_event(one) for one in page.items], "NextToken": page.next_token}

    async def exports(caller: Caller, parameters: Parameters) -> Members:
        found = [(one, output) for one in stacks.list_stacks(caller) for output in one.outputs if output.export]
        return _page(pages, "ListExports", "Exports", [show_export(*one) for one in found], parameters)

    return {
        "DescribeStacks": offer(describe, "StackName", "NextToken"),
        "ListStacks": offer(list_stacks, "StackStatusFilter", "NextToken"),
        "DescribeStackEvents": offer(events, "StackName", "NextToken"),
        "ListExports": offer(exports, "NextToken"),
    }


def _resource_handlers(stacks: StackService, pages: PageTokens) -> dict[str, Handler]:
    async def one(caller: Caller, parameters: Parameters) -> Members:
        stack, wanted = stacks.get(caller, parameters["StackName"]), parameters["LogicalResourceId"]
        if wanted not in stack.resources:
            raise ValidationError(f"Resource {wanted} does not exist for stack {stack.name}")
        shown = dict(show_resource(stack.resources[wanted]))
        shown["LastUpdatedTimestamp"] = shown.pop("Timestamp")
        return {"StackResourceDetail": {**shown, "StackName": stack.name, "StackId": stack.id}}

    async def describe(caller: Caller, parameters: Parameters) -> Members:
        name, physical = parameters.get("StackName"), parameters.get("PhysicalResourceId")
        if (name is None) == (physical is None):
            raise ValidationError("Either StackName or PhysicalResourceId must be given, and not both")
        found = [stacks.get(caller, name)] if name is not None else stacks.list_stacks(caller)
        if physical is not None:
            found = [one for one in found if any(_is(resource, physical) for resource in one.resources.values())][:1]
        logical = parameters.get("LogicalResourceId")
        shown = [
            {**show_resource(resource), "StackName": stack.name, "StackId": stack.id}
            for stack in found
            for resource in stack.resources.values()
            if logical in (None, resource.logical_id)
        ]
        if not shown:
            raise ValidationError(f"Stack for {physical or logical or name} does not exist")
        return {"StackResources": shown[:_PAGE]}

    async def list_resources(caller: Caller, parameters: Parameters) -> Members:
        resources = stacks.get(caller, parameters["StackName"]).resources.values()
        shown = [dict(show_resource(resource)) for resource in resources]
        for resource in shown:
            resource["LastUpdatedTimestamp"] = resource.pop("Timestamp")
        return _page(pages, "ListStackResources", "StackResourceSummaries", shown, parameters)

    return {
        "DescribeStackResource": offer(one, "StackName", "LogicalResourceId"),
        "DescribeStackResources": offer(describe, "StackName", "LogicalResourceId", "PhysicalResourceId"),
        "ListStackResources": offer(list_resources, "StackName", "NextToken"),
    }


def _is(resource: StackResource, physical_id: str) -> bool:
    return resource.physical_id == physical_id


def _template_handlers(stacks: StackService) -> dict[str, Handler]:
    async def validate(caller: Caller, parameters: Parameters) -> Members:
        return show_template(await stacks.summarise(caller, _read_template(parameters), None))

    async def summarise(caller: Caller, parameters: Parameters) -> Members:
        found = await stacks.summarise(caller, _read_template(parameters), parameters.get("StackName"))
        shown = dict(show_template(found))
        shown["Parameters"] = [show_declared(one, whole=True) for one in found.template.parameters.values()]
        return {**shown, "ResourceTypes": found.template.types, "Version": "2010-09-09"}

    return {
        "ValidateTemplate": offer(validate, "TemplateBody", "TemplateURL"),
        "GetTemplateSummary": offer(summarise, "TemplateBody", "TemplateURL", "StackName", "TemplateSummaryConfig"),
    }


def _read_template(parameters: Parameters) -> ShapeRequest:
    return ShapeRequest(body=parameters.get("TemplateBody"), url=parameters.get("TemplateURL"))


def show_template(found: TemplateSummary) -> Members:
    """Return what a template declares, as ValidateTemplate does."""
    why = "The following resource(s) require capabilities: [AWS::IAM]"
    return {
        "Parameters": [show_declared(one) for one in found.template.parameters.values()],
        "Description": found.template.description,
        "Capabilities": list(found.capabilities) or None,
        "CapabilitiesReason": why if found.capabilities else None,
        "DeclaredTransforms": list(found.template.transforms),
    }


def read_create(parameters: Parameters) -> CreateStack:
    """Return what CreateStack asks for.

    Raises:
        ValidationError: it says twice what is to be done on a failure.
    """
    on_failure, disable = parameters.get("OnFailure"), disables_rollback(parameters)
    if on_failure is not None and "DisableRollback" in parameters:
        raise ValidationError("Either OnFailure or DisableRollback can be specified, not both.")
    return CreateStack(
        name=parameters["StackName"],
        shape=read_shape(parameters),
        on_failure=on_failure or ("DO_NOTHING" if disable else "ROLLBACK"),
        is_protected=parameters.get("EnableTerminationProtection", False),
        token=parameters.get("ClientRequestToken"),
    )


def _page(
    pages: PageTokens, operation: str, member: str, found: Sequence[Any], parameters: Parameters
) -> Members:  # Any: what the list has
    page = cut_page(pages, f"cloudformation:{operation}", found, PageRequest(_PAGE, parameters.get("NextToken")))
    return {member: list(page.items), "NextToken": page.next_token}
