"""AWS::Lambda::NetworkConnector: a network connector, waited for until its subnets have been looked up."""

from __future__ import annotations

from typing import Any, Final

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import StabilityError, Terms, as_parameters, chosen_name, merged_tags, waits
from emberbox.edges.aws.stacks.tags import change_tags
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.stacks.template import Values
from emberbox.model.states import ConnectorState, UpdateStatus
from emberbox.spec.models import CORE, load_operation

_CHANGED: Final = ("Configuration", "OperatorRole")


class ConnectorKind:
    """Makes network connectors.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset({"Name", "Configuration", "OperatorRole", "Tags"}),
        needed=frozenset({"Configuration"}),
        fixed=frozenset({"Name"}),
        name="Name",
    )

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a connector; the client token makes a repeat harmless."""
        parameters = _parameters("CreateNetworkConnector", job)
        parameters |= {"Name": chosen_name(self.terms, job), "ClientToken": job.token}
        if tags := merged_tags(job):
            parameters["Tags"] = tags
        made = await self._calls.call(job.caller, CORE, "CreateNetworkConnector", parameters)
        await tell(made["Arn"])
        return await self._settled(job.caller, made["Arn"])

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Make a new version where anything but tags has changed."""
        if any(before.get(name) != job.properties.get(name) for name in _CHANGED):
            parameters = _parameters("UpdateNetworkConnector", job) | {"Identifier": physical_id}
            await self._settled(job.caller, physical_id)
            await self._calls.call(job.caller, CORE, "UpdateNetworkConnector", parameters)
        made = await self._settled(job.caller, physical_id)
        await change_tags(self._calls, job, physical_id)
        return made

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a connector."""
        asked = {"Identifier": physical_id}
        try:
            async for _ in waits():
                if (await self._get(job.caller, physical_id))["State"] != ConnectorState.PENDING:
                    break
            await self._calls.call(job.caller, CORE, "DeleteNetworkConnector", asked)
            async for _ in waits():
                if (await self._get(job.caller, physical_id))["State"] == ConnectorState.DELETE_FAILED:
                    raise StabilityError(f"The connector {physical_id} could not be deleted")
        except NotFoundError:
            return

    async def _get(self, caller: Caller, arn: str) -> Values:
        return await self._calls.call(caller, CORE, "GetNetworkConnector", {"Identifier": arn})

    async def _settled(self, caller: Caller, arn: str) -> Made:
        async for _ in waits():
            found = await self._get(caller, arn)
            if found["State"] == ConnectorState.PENDING or found.get("LastUpdateStatus") == UpdateStatus.IN_PROGRESS:
                continue
            if found["State"] != ConnectorState.ACTIVE:
                raise StabilityError(f"The connector is {found['State']}: {found.get('StateReason')}")
            if found.get("LastUpdateStatus") == UpdateStatus.FAILED:
                raise StabilityError(f"The connector was not changed: {found.get('LastUpdateStatusReason')}")
            return Made(arn, {"Arn": arn, "State": str(found["State"]), "LatestVersion": str(found["LatestVersion"]),
                              "LatestVersionArn": found["LatestVersionArn"]})  # fmt: skip
        raise AssertionError("waits never end")


def _parameters(operation: str, job: Job) -> dict[str, Any]:
    values = {name: job.properties[name] for name in _CHANGED if name in job.properties}
    return as_parameters(load_operation(CORE, operation).input_shape, values)
