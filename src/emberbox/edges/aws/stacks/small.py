"""Kinds with little to them: log groups, stored parameters, and what stands for nothing here."""

from __future__ import annotations

from typing import Any

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import Terms, chosen_name, is_ours
from emberbox.edges.aws.stacks.roles import gone_is_fine
from emberbox.model.errors import AlreadyExistsError
from emberbox.model.stacks.template import Values
from emberbox.spec.models import LOGS, SSM


class LogGroupKind:
    """Makes log groups. Their tags are the stack's alone: groups here have none.

    Args:
        calls: calls operations.
        region: the region played, for ARNs.
    """

    terms = Terms(
        taken=frozenset({"LogGroupName", "RetentionInDays", "Tags"}),
        fixed=frozenset({"LogGroupName"}),
        name="LogGroupName",
        name_max=512,
    )

    def __init__(self, calls: Calls, region: str) -> None:
        self._calls = calls
        self._region = region

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a group."""
        name = chosen_name(self.terms, job)
        try:
            await self._calls.call(job.caller, LOGS, "CreateLogGroup", {"logGroupName": name})
        except AlreadyExistsError:
            if not is_ours(self.terms, job):
                raise
        await tell(name)
        return await self.update(job, name, {})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Say for how long its events are kept."""
        group: dict[str, Any] = {"logGroupName": physical_id}
        days = job.properties.get("RetentionInDays")
        if days is not None:
            await self._calls.call(job.caller, LOGS, "PutRetentionPolicy", {**group, "retentionInDays": int(days)})
        elif before.get("RetentionInDays") is not None:
            await self._calls.call(job.caller, LOGS, "DeleteRetentionPolicy", group)
        arn = f"arn:aws:logs:{self._region}:{job.caller.account_id}:log-group:{physical_id}:*"
        return Made(physical_id, {"Arn": arn})

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a group with its events."""
        await gone_is_fine(self._calls.call(job.caller, LOGS, "DeleteLogGroup", {"logGroupName": physical_id}))


class ParameterKind:
    """Stores parameters.

    Args:
        calls: calls operations.
    """

    terms = Terms(
        taken=frozenset({"Name", "Type", "Value", "Description"}),
        needed=frozenset({"Type", "Value"}),
        fixed=frozenset({"Name"}),
        name="Name",
        name_max=1011,
    )

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, job: Job, tell: Tell) -> Made:
        """Store a value under a new name."""
        name = chosen_name(self.terms, job)
        try:
            made = await self._put(job, name, overwrite=False)
        except AlreadyExistsError:
            if not is_ours(self.terms, job):
                raise
            made = await self._put(job, name, overwrite=True)
        await tell(name)
        return made

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:  # noqa: ARG002 - the new value is all
        """Store another value."""
        return await self._put(job, physical_id, overwrite=True)

    async def _put(self, job: Job, name: str, *, overwrite: bool) -> Made:
        given = job.properties
        parameters = {"Name": name, "Type": str(given["Type"]), "Value": str(given["Value"]), "Overwrite": overwrite}
        if given.get("Description"):
            parameters["Description"] = str(given["Description"])
        await self._calls.call(job.caller, SSM, "PutParameter", parameters)
        return Made(name, {"Type": parameters["Type"], "Value": parameters["Value"]})

    async def delete(self, job: Job, physical_id: str) -> None:
        """Remove a parameter."""
        await gone_is_fine(self._calls.call(job.caller, SSM, "DeleteParameter", {"Name": physical_id}))


class NothingKind:
    """Stands for what has no meaning here, so that templates of everyday tools can be used: nothing is made.

    Args:
        attributes: what `Fn::GetAtt` finds, with `{name}` for the resource's name.
        terms: its properties.
    """

    def __init__(self, terms: Terms, attributes: Values | None = None) -> None:
        self.terms = terms
        self._attributes = attributes or {}

    async def create(self, job: Job, tell: Tell) -> Made:
        """Give it a name."""
        name = chosen_name(self.terms, job)
        await tell(name)
        return await self.update(job, name, {})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:  # noqa: ARG002 - see the class
        """Do nothing."""
        account = job.caller.account_id
        texts = {name: str(text).format(name=physical_id, account=account, region=job.caller.region)
                 for name, text in self._attributes.items()}  # fmt: skip
        return Made(physical_id, texts)

    async def delete(self, job: Job, physical_id: str) -> None:
        """Do nothing."""
