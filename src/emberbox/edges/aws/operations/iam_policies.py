"""IAM's operations on managed policies, and on what roles have of them."""

from __future__ import annotations

from typing import Final

from emberbox.control.access.managed_policies import CreatePolicy, ManagedPolicies, Simulated
from emberbox.control.requests.paging import PageTokens
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.iam_words import PAGE, quoted, read_tags, show_page, show_tags
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.iam.access import ManagedPolicy
from emberbox.model.iam.policies import Decision

ONLY_VERSION: Final = "v1"
"""A policy is not changed here, so it has one version."""

_DECISIONS: Final = {
    Decision.ALLOW: "allowed",
    Decision.EXPLICIT_DENY: "explicitDeny",
    Decision.IMPLICIT_DENY: "implicitDeny",
}


def handlers(policies: ManagedPolicies, pages: PageTokens) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""
    return policy_handlers(policies, pages) | list_handlers(policies, pages) | attachment_handlers(policies, pages)


def policy_handlers(policies: ManagedPolicies, pages: PageTokens) -> dict[str, Handler]:
    """Return the handlers of the operations on one policy."""

    async def create(caller: Caller, parameters: Parameters) -> Members:
        return {"Policy": show_policy(policies.create(caller, read_create_policy(parameters)), 0)}

    async def get(caller: Caller, parameters: Parameters) -> Members:
        arn = parameters["PolicyArn"]
        return {"Policy": show_policy(policies.get(caller, arn), policies.attachment_counts(caller)[arn])}

    async def get_version(caller: Caller, parameters: Parameters) -> Members:
        policy = policies.get(caller, parameters["PolicyArn"])
        if parameters["VersionId"] != ONLY_VERSION:
            raise NotFoundError(f"Policy {policy.arn} version {parameters['VersionId']} does not exist.")
        return {"PolicyVersion": {**show_version(policy), "Document": quoted(policy.document)}}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        policies.delete(caller, parameters["PolicyArn"])
        return {}

    async def simulate(caller: Caller, parameters: Parameters) -> Members:
        found = policies.simulate(
            caller, parameters["PolicySourceArn"], parameters["ActionNames"], parameters.get("ResourceArns") or ["*"]
        )
        return show_page(pages, "Simulate", "EvaluationResults", [show_simulated(one) for one in found], parameters)

    return {
        "CreatePolicy": offer(create, "PolicyName", "PolicyDocument", "Path", "Description", "Tags"),
        "GetPolicy": offer(get, "PolicyArn"),
        "GetPolicyVersion": offer(get_version, "PolicyArn", "VersionId"),
        "DeletePolicy": offer(delete, "PolicyArn"),
        "SimulatePrincipalPolicy": offer(simulate, "PolicySourceArn", "ActionNames", "ResourceArns", *PAGE),
    }


def list_handlers(policies: ManagedPolicies, pages: PageTokens) -> dict[str, Handler]:
    """Return the handlers of the lists of policies and of their versions."""

    async def list_policies(caller: Caller, parameters: Parameters) -> Members:
        counts = policies.attachment_counts(caller)
        found = policies.list_policies(caller, parameters.get("Scope", "All"), parameters.get("PathPrefix", "/"))
        attached_only = parameters.get("OnlyAttached", False)
        shown = [show_policy(one, counts[one.arn]) for one in found if counts[one.arn] or not attached_only]
        return show_page(pages, "ListPolicies", "Policies", shown, parameters)

    async def list_versions(caller: Caller, parameters: Parameters) -> Members:
        found = [show_version(policies.get(caller, parameters["PolicyArn"]))]
        return show_page(pages, "ListPolicyVersions", "Versions", found, parameters)

    return {
        "ListPolicies": offer(list_policies, "Scope", "OnlyAttached", "PathPrefix", *PAGE),
        "ListPolicyVersions": offer(list_versions, "PolicyArn", *PAGE),
    }


def attachment_handlers(policies: ManagedPolicies, pages: PageTokens) -> dict[str, Handler]:
    """Return the handlers of the operations on what roles have of managed policies."""

    async def attach(caller: Caller, parameters: Parameters) -> Members:
        policies.attach(caller, parameters["RoleName"], parameters["PolicyArn"])
        return {}

    async def detach(caller: Caller, parameters: Parameters) -> Members:
        policies.detach(caller, parameters["RoleName"], parameters["PolicyArn"])
        return {}

    async def list_attached(caller: Caller, parameters: Parameters) -> Members:
        prefix = parameters.get("PathPrefix", "/")
        found = [
            {"PolicyName": policy.name, "PolicyArn": policy.arn}
            for policy in policies.attached(caller, parameters["RoleName"])
            if policy.path.startswith(prefix)
        ]
        return show_page(pages, "ListAttachedRolePolicies", "AttachedPolicies", found, parameters)

    return {
        "AttachRolePolicy": offer(attach, "RoleName", "PolicyArn"),
        "DetachRolePolicy": offer(detach, "RoleName", "PolicyArn"),
        "ListAttachedRolePolicies": offer(list_attached, "RoleName", "PathPrefix", *PAGE),
    }


def read_create_policy(parameters: Parameters) -> CreatePolicy:
    """Return what is asked for."""
    return CreatePolicy(
        name=parameters["PolicyName"],
        document=parameters["PolicyDocument"],
        path=parameters.get("Path", "/"),
        description=parameters.get("Description", ""),
        tags=read_tags(parameters),
    )


def show_policy(policy: ManagedPolicy, attachments: int) -> Members:
    """Return a policy as IAM shows it."""
    made_at = policy.created_at.replace(microsecond=0)
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": ONLY_VERSION,
        "AttachmentCount": attachments,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "Description": policy.description or None,
        "CreateDate": made_at,
        "UpdateDate": made_at,
        "Tags": show_tags(policy.tags) or None,
    }


def show_version(policy: ManagedPolicy) -> Members:
    """Return the one version of a policy, without its document."""
    made_at = policy.created_at.replace(microsecond=0)
    return {"VersionId": ONLY_VERSION, "IsDefaultVersion": True, "CreateDate": made_at}


def show_simulated(one: Simulated) -> Members:
    """Return what was decided as IAM shows it."""
    return {
        "EvalActionName": one.action,
        "EvalResourceName": one.resource,
        "EvalDecision": _DECISIONS[one.decision],
        "MatchedStatements": [],
        "MissingContextValues": [],
    }
