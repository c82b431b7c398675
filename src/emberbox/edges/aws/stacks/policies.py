"""AWS::IAM::Policy and AWS::IAM::ManagedPolicy: policies of roles; there are no groups here.

Users are the operator's (`emberbox keys`, `emberbox policies`).

A managed policy has one version here, so a change of its document replaces it.
"""

from __future__ import annotations

from typing import Any

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import Terms, chosen_name, is_ours
from emberbox.edges.aws.stacks.roles import as_document, gone_is_fine
from emberbox.model.caller import Caller
from emberbox.model.errors import AlreadyExistsError
from emberbox.model.iam.access import iam_arn
from emberbox.model.stacks.template import Values
from emberbox.spec.models import IAM


class PolicyKind:
    """Gives roles a policy of their own.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset({"PolicyName", "PolicyDocument", "Roles"}),
        needed=frozenset({"PolicyName", "PolicyDocument", "Roles"}),
    )

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Put the policy to each role."""
        name = chosen_name(self.terms, job)
        await tell(name)
        await self._put(job)
        return Made(name, {"Id": name})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Put it anew, and take it from roles that are not named any more."""
        await self._put(job)
        kept = set(job.properties["Roles"]) if job.properties["PolicyName"] == before.get("PolicyName") else set()
        for role in set(before.get("Roles") or ()) - kept:
            await self._take(job.caller, role, str(before["PolicyName"]))
        return Made(physical_id, {"Id": physical_id})

    async def delete(self, job: Job, physical_id: str) -> None:  # noqa: ARG002 - policies go by role and name
        """Take the policy from each role."""
        for role in job.properties.get("Roles") or ():
            await self._take(job.caller, role, str(job.properties["PolicyName"]))

    async def _put(self, job: Job) -> None:
        policy = {
            "PolicyName": job.properties["PolicyName"],
            "PolicyDocument": as_document(job.properties["PolicyDocument"]),
        }
        for role in job.properties["Roles"]:
            await self._calls.call(job.caller, IAM, "PutRolePolicy", {"RoleName": role, **policy})

    async def _take(self, caller: Caller, role: str, name: str) -> None:
        asked = {"RoleName": role, "PolicyName": name}
        await gone_is_fine(self._calls.call(caller, IAM, "DeleteRolePolicy", asked))


class ManagedPolicyKind:
    """Makes managed policies.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset({"ManagedPolicyName", "PolicyDocument", "Description", "Path", "Roles"}),
        needed=frozenset({"PolicyDocument"}),
        fixed=frozenset({"ManagedPolicyName", "PolicyDocument", "Description", "Path"}),
        name="ManagedPolicyName",
        name_max=128,
    )

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a policy and attach it."""
        given, name = job.properties, chosen_name(self.terms, job)
        path = str(given.get("Path", "/"))
        parameters = {
            "PolicyName": name,
            "PolicyDocument": as_document(given["PolicyDocument"]),
            "Path": path,
            "Description": str(given.get("Description", "")),
        }
        arn = iam_arn(job.caller.account_id, "policy", f"{path}{name}"[1:])
        try:
            await self._call(job.caller, "CreatePolicy", parameters)
        except AlreadyExistsError:
            if not is_ours(self.terms, job):
                raise
        await tell(arn)
        return await self.update(job, arn, {})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Attach it to the roles that are named, and to no others that were."""
        wanted = set(job.properties.get("Roles") or ())
        for role in sorted(wanted):
            await self._call(job.caller, "AttachRolePolicy", {"RoleName": role, "PolicyArn": physical_id})
        for role in sorted(set(before.get("Roles") or ()) - wanted):
            await gone_is_fine(self._call(job.caller, "DetachRolePolicy", {"RoleName": role, "PolicyArn": physical_id}))
        return Made(physical_id, {"PolicyArn": physical_id})

    async def delete(self, job: Job, physical_id: str) -> None:
        """Detach it from its roles, and delete it."""
        for role in job.properties.get("Roles") or ():
            await gone_is_fine(self._call(job.caller, "DetachRolePolicy", {"RoleName": role, "PolicyArn": physical_id}))
        await gone_is_fine(self._call(job.caller, "DeletePolicy", {"PolicyArn": physical_id}))

    async def _call(self, caller: Caller, operation: str, parameters: dict[str, Any]) -> Values:
        return await self._calls.call(caller, IAM, operation, parameters)
