"""IAM's operations on roles and on the policies that they have of their own."""

from __future__ import annotations

from emberbox.control.access.iam_roles import CreateRole, IamRoles
from emberbox.control.access.managed_policies import ManagedPolicies
from emberbox.control.requests.paging import PageTokens
from emberbox.edges.aws.operations import iam_policies
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.iam_words import PAGE, quoted, read_tags, show_page, show_tags
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.iam.access import Role


def handlers(roles: IamRoles, policies: ManagedPolicies, pages: PageTokens) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""
    return (
        role_handlers(roles)
        | list_handlers(roles, pages)
        | role_policy_handlers(roles, pages)
        | iam_policies.handlers(policies, pages)
    )


def role_handlers(roles: IamRoles) -> dict[str, Handler]:
    """Return the handlers of the operations on one role."""

    async def create(caller: Caller, parameters: Parameters) -> Members:
        return {"Role": show_role(roles.create(caller, read_create_role(parameters)))}

    async def get(caller: Caller, parameters: Parameters) -> Members:
        return {"Role": show_role(roles.get(caller, parameters["RoleName"]))}

    async def update(caller: Caller, parameters: Parameters) -> Members:
        asked = (parameters.get("Description"), parameters.get("MaxSessionDuration"))
        roles.update(caller, parameters["RoleName"], *asked)
        return {}

    async def update_description(caller: Caller, parameters: Parameters) -> Members:
        return {"Role": show_role(roles.update(caller, parameters["RoleName"], parameters["Description"], None))}

    async def update_trust(caller: Caller, parameters: Parameters) -> Members:
        roles.update_trust(caller, parameters["RoleName"], parameters["PolicyDocument"])
        return {}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        roles.delete(caller, parameters["RoleName"])
        return {}

    async def tag(caller: Caller, parameters: Parameters) -> Members:
        roles.tag(caller, parameters["RoleName"], read_tags(parameters))
        return {}

    async def untag(caller: Caller, parameters: Parameters) -> Members:
        roles.untag(caller, parameters["RoleName"], parameters["TagKeys"])
        return {}

    made = ("RoleName", "AssumeRolePolicyDocument", "Path", "Description", "MaxSessionDuration", "Tags")
    return {
        "CreateRole": offer(create, *made),
        "GetRole": offer(get, "RoleName"),
        "UpdateRole": offer(update, "RoleName", "Description", "MaxSessionDuration"),
        "UpdateRoleDescription": offer(update_description, "RoleName", "Description"),
        "UpdateAssumeRolePolicy": offer(update_trust, "RoleName", "PolicyDocument"),
        "DeleteRole": offer(delete, "RoleName"),
        "TagRole": offer(tag, "RoleName", "Tags"),
        "UntagRole": offer(untag, "RoleName", "TagKeys"),
    }


def list_handlers(roles: IamRoles, pages: PageTokens) -> dict[str, Handler]:
    """Return the handlers of the lists of roles, and of what there is of one."""

    async def list_roles(caller: Caller, parameters: Parameters) -> Members:
        found = [show_role(role) for role in roles.list_roles(caller, parameters.get("PathPrefix", "/"))]
        return show_page(pages, "ListRoles", "Roles", found, parameters)

    async def list_tags(caller: Caller, parameters: Parameters) -> Members:
        found = show_tags(roles.get(caller, parameters["RoleName"]).tags)
        return show_page(pages, "ListRoleTags", "Tags", found, parameters)

    async def list_profiles(caller: Caller, parameters: Parameters) -> Members:
        roles.get(caller, parameters["RoleName"])  # there are no instances here, and so no profiles
        return {"InstanceProfiles": [], "IsTruncated": False}

    return {
        "ListRoles": offer(list_roles, "PathPrefix", *PAGE),
        "ListRoleTags": offer(list_tags, "RoleName", *PAGE),
        "ListInstanceProfilesForRole": offer(list_profiles, "RoleName", *PAGE),
    }


def role_policy_handlers(roles: IamRoles, pages: PageTokens) -> dict[str, Handler]:
    """Return the handlers of the operations on a role's own policies."""

    async def put(caller: Caller, parameters: Parameters) -> Members:
        roles.put_policy(caller, parameters["RoleName"], parameters["PolicyName"], parameters["PolicyDocument"])
        return {}

    async def get(caller: Caller, parameters: Parameters) -> Members:
        policy = roles.policy(caller, parameters["RoleName"], parameters["PolicyName"])
        return {"RoleName": policy.principal, "PolicyName": policy.name, "PolicyDocument": quoted(policy.document)}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        roles.delete_policy(caller, parameters["RoleName"], parameters["PolicyName"])
        return {}

    async def list_policies(caller: Caller, parameters: Parameters) -> Members:
        names = [policy.name for policy in roles.policies_of(caller, parameters["RoleName"])]
        return show_page(pages, "ListRolePolicies", "PolicyNames", names, parameters)

    return {
        "PutRolePolicy": offer(put, "RoleName", "PolicyName", "PolicyDocument"),
        "GetRolePolicy": offer(get, "RoleName", "PolicyName"),
        "DeleteRolePolicy": offer(delete, "RoleName", "PolicyName"),
        "ListRolePolicies": offer(list_policies, "RoleName", *PAGE),
    }


def read_create_role(parameters: Parameters) -> CreateRole:
    """Return what is asked for."""
    return CreateRole(
        name=parameters["RoleName"],
        trust_document=parameters["AssumeRolePolicyDocument"],
        path=parameters.get("Path", "/"),
        description=parameters.get("Description", ""),
        max_session_s=parameters.get("MaxSessionDuration", 3600),
        tags=read_tags(parameters),
    )


def show_role(role: Role) -> Members:
    """Return a role as IAM shows it."""
    is_known = role.created_at.timestamp() > 0
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": (role.created_at if is_known else role.updated_at).replace(microsecond=0),
        "AssumeRolePolicyDocument": quoted(role.trust_document) or None,
        "Description": role.description or None,
        "MaxSessionDuration": role.max_session_s,
        "Tags": show_tags(role.tags) or None,
    }
