"""The operations on roles."""

from __future__ import annotations

from emberbox.control.access.roles import PutRole, RoleDetails, RoleService
from emberbox.edges.aws.operations.accounts import read_account
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.iam.access import OwnCredentials, PrincipalKind, iam_arn


def handlers(roles: RoleService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def put(caller: Caller, parameters: Parameters) -> Members:
        return {"role": show_role(roles.put(read_put_role(caller, parameters)))}

    async def list_roles(caller: Caller, parameters: Parameters) -> Members:
        return {"items": [show_role(role) for role in roles.list_roles(read_account(caller, parameters))]}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        roles.delete(read_account(caller, parameters), parameters["roleName"])
        return {}

    return {"PutRole": put, "ListRoles": list_roles, "DeleteRole": delete}


def read_put_role(caller: Caller, parameters: Parameters) -> PutRole:
    """Return what is asked for."""
    prefixes, credentials = parameters.get("s3Prefixes"), parameters.get("credentials")
    return PutRole(
        account_id=read_account(caller, parameters),
        name=parameters["roleName"],
        description=parameters.get("description", ""),
        s3_prefixes=None if prefixes is None else tuple(prefixes),
        policy_document=parameters.get("policyDocument"),
        credentials=None if credentials is None else read_credentials(credentials),
    )


def read_credentials(parameters: Parameters) -> OwnCredentials:
    """Return the credentials that a role's holders get."""
    return OwnCredentials(parameters["accessKeyId"], parameters["secretAccessKey"], parameters.get("sessionToken"))


def show_role(details: RoleDetails) -> Members:
    """Return a role as the API shows it, without secrets."""
    role = details.role
    return {
        "roleName": role.name,
        "roleArn": iam_arn(role.account_id, PrincipalKind.ROLE, role.name),
        "accountId": role.account_id,
        "description": role.description,
        "s3Prefixes": None if role.s3_prefixes is None else list(role.s3_prefixes),
        "policyDocument": details.policy_document,
        "accessKeyId": details.access_key_id,
        "updatedAt": role.updated_at,
    }
