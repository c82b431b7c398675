"""Custom::LogRetention of CDK: for how long a log group keeps events that the stack does not own."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import Terms
from emberbox.edges.aws.stacks.roles import gone_is_fine
from emberbox.model.errors import AlreadyExistsError, ValidationError
from emberbox.model.stacks.template import Values
from emberbox.spec.models import LOGS

_DESTROY: Final = "destroy"


class LogRetentionKind:
    """Does what CDK's function does with log groups, as whoever the stack is made for.

    Args:
        calls: calls operations.
        region: the region played, the only one that groups can be in.
    """

    terms = Terms(
        taken=frozenset(
            {"ServiceToken", "LogGroupName", "LogGroupRegion", "RetentionInDays", "RemovalPolicy", "SdkRetry"}
        ),
        needed=frozenset({"LogGroupName"}),
        fixed=frozenset({"LogGroupName"}),
    )

    def __init__(self, calls: Calls, region: str) -> None:
        self._calls = calls
        self._region = region

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make the group where it is not there yet, and set its retention."""
        name = str(job.properties["LogGroupName"])
        await tell(name)
        return await self.update(job, name, {})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:  # noqa: ARG002 - the new days are all
        """Set the retention; without days events are kept as long as any."""
        given = job.properties
        if given.get("LogGroupRegion", self._region) != self._region:
            raise ValidationError(f"LogGroupRegion {given['LogGroupRegion']} is not the region of this server")
        group: dict[str, Any] = {"logGroupName": physical_id}
        with contextlib.suppress(AlreadyExistsError):
            await self._calls.call(job.caller, LOGS, "CreateLogGroup", group)
        if given.get("RetentionInDays") is None:
            await self._calls.call(job.caller, LOGS, "DeleteRetentionPolicy", group)
        else:
            days = int(given["RetentionInDays"])
            await self._calls.call(job.caller, LOGS, "PutRetentionPolicy", {**group, "retentionInDays": days})
        return Made(physical_id, {"LogGroupName": physical_id})

    async def delete(self, job: Job, physical_id: str) -> None:
        """Leave the group, as the stack does not own it, unless CDK's RemovalPolicy says otherwise."""
        if job.properties.get("RemovalPolicy") == _DESTROY:
            await gone_is_fine(self._calls.call(job.caller, LOGS, "DeleteLogGroup", {"logGroupName": physical_id}))
