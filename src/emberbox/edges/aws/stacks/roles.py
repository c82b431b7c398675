"""AWS::IAM::Role: a role with policies of its own and attached ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import Terms, chosen_name, is_ours, merged_tags
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError, NotFoundError
from emberbox.model.stacks.template import Values
from emberbox.spec.models import IAM


class RoleKind:
    """Makes roles.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset(
            {
                "RoleName", "AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "MaxSessionDuration",
                "Path", "Policies", "Tags",
            }
        ),
        needed=frozenset({"AssumeRolePolicyDocument"}),
        fixed=frozenset({"RoleName", "Path"}),
        name="RoleName",
    )  # fmt: skip

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a role with its policies."""
        name, given = chosen_name(self.terms, job), job.properties
        parameters = {
            "RoleName": name,
            "AssumeRolePolicyDocument": as_document(given["AssumeRolePolicyDocument"]),
            "Path": given.get("Path", "/"),
            "Description": str(given.get("Description", "")),
            "MaxSessionDuration": int(given.get("MaxSessionDuration", 3600)),
            "Tags": [{"Key": key, "Value": value} for key, value in merged_tags(job).items()],
        }
        try:
            await self._call(job.caller, "CreateRole", parameters)
        except AlreadyExistsError:
            if not is_ours(self.terms, job):
                raise
        await tell(name)
        await self._put_policies(job, name, {})
        return await self._shown(job.caller, name)

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Change a role and its policies; those that others gave it stay."""
        given, role = job.properties, {"RoleName": physical_id}
        trust = as_document(given["AssumeRolePolicyDocument"])
        await self._call(job.caller, "UpdateAssumeRolePolicy", {**role, "PolicyDocument": trust})
        described = {
            "Description": str(given.get("Description", "")),
            "MaxSessionDuration": int(given.get("MaxSessionDuration", 3600)),
        }
        await self._call(job.caller, "UpdateRole", {**role, **described})
        await self._put_tags(job, physical_id)
        await self._put_policies(job, physical_id, before)
        return await self._shown(job.caller, physical_id)

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a role with all its policies."""
        role = {"RoleName": physical_id}
        try:
            for arn in await self._attached(job.caller, physical_id):
                await self._call(job.caller, "DetachRolePolicy", {**role, "PolicyArn": arn})
            found = await self._call(job.caller, "ListRolePolicies", {**role, "MaxItems": 1000})
            for name in found["PolicyNames"]:
                await self._call(job.caller, "DeleteRolePolicy", {**role, "PolicyName": name})
            await self._call(job.caller, "DeleteRole", role)
        except NotFoundError:
            return

    async def _put_policies(self, job: Job, name: str, before: Values) -> None:
        role, wanted, old = {"RoleName": name}, _own_policies(job.properties), _own_policies(before)
        for policy, document in wanted.items():
            await self._call(job.caller, "PutRolePolicy", {**role, "PolicyName": policy, "PolicyDocument": document})
        for policy in old.keys() - wanted.keys():
            await gone_is_fine(self._call(job.caller, "DeleteRolePolicy", {**role, "PolicyName": policy}))
        arns = set(job.properties.get("ManagedPolicyArns") or ())
        for arn in sorted(arns):
            await self._call(job.caller, "AttachRolePolicy", {**role, "PolicyArn": arn})
        for arn in sorted(set(before.get("ManagedPolicyArns") or ()) - arns):
            await gone_is_fine(self._call(job.caller, "DetachRolePolicy", {**role, "PolicyArn": arn}))

    async def _put_tags(self, job: Job, name: str) -> None:
        wanted, role = merged_tags(job), {"RoleName": name}
        found = (await self._call(job.caller, "GetRole", role))["Role"].get("Tags") or ()
        if wanted:
            pairs = [{"Key": key, "Value": value} for key, value in wanted.items()]
            await self._call(job.caller, "TagRole", {**role, "Tags": pairs})
        if gone := sorted({tag["Key"] for tag in found} - wanted.keys()):
            await self._call(job.caller, "UntagRole", {**role, "TagKeys": gone})

    async def _attached(self, caller: Caller, name: str) -> list[str]:
        asked = {"RoleName": name, "MaxItems": 1000}
        found = await self._call(caller, "ListAttachedRolePolicies", asked)
        return [one["PolicyArn"] for one in found["AttachedPolicies"]]

    async def _shown(self, caller: Caller, name: str) -> Made:
        role = (await self._call(caller, "GetRole", {"RoleName": name}))["Role"]
        return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    async def _call(self, caller: Caller, operation: str, parameters: dict[str, Any]) -> Values:
        return await self._calls.call(caller, IAM, operation, parameters)


def _own_policies(properties: Values) -> dict[str, str]:
    given = properties.get("Policies") or ()
    return {str(one["PolicyName"]): as_document(one["PolicyDocument"]) for one in given}


def as_document(given: Any) -> str:
    """Return a policy document as IAM's operations take it. Any: templates have objects, and sometimes texts.

    One without a version is of 2008 on AWS, which differs from 2012's in variables alone.
    """
    if not isinstance(given, Mapping):
        return str(given)
    text = json.dumps(given)
    return text if "Version" in given or "${" in text else json.dumps({"Version": "2012-10-17", **given})


async def gone_is_fine(call: Any) -> None:
    """Wait for a call that takes away what may be gone already. Any: a coroutine of whatever result."""
    try:
        await call
    except NotFoundError:
        return
