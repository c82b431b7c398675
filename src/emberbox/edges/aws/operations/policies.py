"""The operations on policies of users."""

from __future__ import annotations

from emberbox.control.access.policies import PolicyName, PolicyService
from emberbox.edges.aws.operations.accounts import read_account
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.iam.access import AttachedPolicy


def handlers(policies: PolicyService) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""

    async def put(caller: Caller, parameters: Parameters) -> Members:
        return {"policy": show_policy(policies.put(read_name(caller, parameters), parameters["policyDocument"]))}

    async def list_policies(caller: Caller, parameters: Parameters) -> Members:
        found = policies.list_policies(read_account(caller, parameters), parameters.get("userName"))
        return {"items": [show_policy(policy) for policy in found]}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        policies.delete(read_name(caller, parameters))
        return {}

    return {"PutPolicy": put, "ListPolicies": list_policies, "DeletePolicy": delete}


def read_name(caller: Caller, parameters: Parameters) -> PolicyName:
    """Return which policy is meant."""
    return PolicyName(read_account(caller, parameters), parameters["userName"], parameters["policyName"])


def show_policy(policy: AttachedPolicy) -> Members:
    """Return a policy as the API shows it."""
    return {
        "policyName": policy.name,
        "accountId": policy.account_id,
        "userName": policy.principal,
        "policyDocument": policy.document,
        "updatedAt": policy.updated_at,
    }
