"""A server that is killed in the middle of a stack's work: the next one goes on, and makes nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from emberbox.edges.aws.operations.handler import Handler, Members
from emberbox.edges.aws.stacks.registry import stack_kinds
from emberbox.model.caller import Caller
from emberbox.model.iam.access import Credential
from emberbox.spec.models import CLOUDFORMATION, IAM
from support.around import Around, own
from support.control_plane import ControlPlane
from support.stacks import TableS3, ended, events_of, reasons_of, working
from support.wire import KEY, REGION

TEMPLATE = """
Resources:
  First: {Type: AWS::Logs::LogGroup}
  Second: {Type: AWS::Logs::LogGroup, DependsOn: First}
  Role:
    Type: AWS::IAM::Role
    DependsOn: Second
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
"""
CAPABLE = {"Capabilities": ["CAPABILITY_IAM"]}


class Kill:
    """Stops the work for good at one call of an operation, before it is done or after.

    Args:
        operation: its name.
        number: the call of it that is the last, from 1.
        after: the call still does its work.
    """

    def __init__(self, operation: str, number: int, *, after: bool) -> None:
        self._operation, self._number, self._after = operation, number, after
        self.reached = asyncio.Event()

    def over(self, handlers: dict[str, dict[str, Handler]]) -> dict[str, dict[str, Handler]]:
        """Return handlers of which one call never returns."""
        for operations in handlers.values():
            if self._operation in operations:
                operations[self._operation] = self._wrap(operations[self._operation])
        return handlers

    def _wrap(self, handler: Handler) -> Handler:
        async def answer(caller: Caller, parameters: dict[str, Any]) -> Members:
            self._number -= 1
            if self._number != 0:
                return await handler(caller, parameters)
            if self._after:
                await handler(caller, parameters)
            self.reached.set()
            await asyncio.Event().wait()
            raise AssertionError("it never returns")

        return answer


async def killed(plane: ControlPlane, kill: Kill, s3: TableS3, operation: str, **parameters: Any) -> None:
    """Begin a stack's work with a server that is killed."""
    kinds = stack_kinds(kill.over(plane.handlers()), plane.access, REGION, s3.connect)
    async with plane.control.stacks.work(kinds):
        await Around(plane.app(), KEY).ok(CLOUDFORMATION, operation, StackName="app", **CAPABLE, **parameters)
        await asyncio.wait_for(kill.reached.wait(), 20)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("operation", "number"), [("CreateLogGroup", 1), ("CreateLogGroup", 2), ("CreateRole", 1)])
async def test_a_creation_goes_on(tmp_path: Path, operation: str, number: int, after: bool) -> None:
    s3, earlier = TableS3(), ControlPlane(tmp_path, KEY, REGION)
    kill = Kill(operation, number, after=after)
    await killed(earlier, kill, s3, "CreateStack", TemplateBody=TEMPLATE)
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    client = Around(plane.app(), KEY)
    async with working(plane, s3):
        stack = await ended(client, "app")
        assert stack["StackStatus"] == "CREATE_COMPLETE", await reasons_of(client, "app")
        names = [name for name, status in await events_of(client, "app") if status == "CREATE_COMPLETE"]
        assert names == ["First", "Second", "Role", "app"]
        assert len(plane.logs.groups(KEY.account_id, "")) == 2
        assert len((await client.ok(IAM, "ListRoles"))["Roles"]) == 1
        await client.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
        assert (await ended(client, stack["StackId"]))["StackStatus"] == "DELETE_COMPLETE"
        assert plane.logs.groups(KEY.account_id, "") == []
    await plane.close()


async def test_what_may_be_somebody_elses_is_not_taken_over(tmp_path: Path) -> None:
    """A name that the template has chosen: whether the killed server has made it nobody knows, so it stays."""
    named = TEMPLATE.replace(
        "First: {Type: AWS::Logs::LogGroup}", "First: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /mine}}"
    )
    s3, earlier = TableS3(), ControlPlane(tmp_path, KEY, REGION)
    await killed(earlier, Kill("CreateLogGroup", 1, after=True), s3, "CreateStack", TemplateBody=named)
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    client = Around(plane.app(), KEY)
    async with working(plane, s3):
        assert (await ended(client, "app"))["StackStatus"] == "ROLLBACK_COMPLETE"
        assert "already exists" in await reasons_of(client, "app")
        assert [group.name for group in plane.logs.groups(KEY.account_id, "")] == ["/mine"]
    await plane.close()


@pytest.mark.parametrize(
    ("operation", "number", "status"),
    [("PutRetentionPolicy", 1, "UPDATE_COMPLETE"), ("DeleteLogGroup", 1, "UPDATE_COMPLETE")],
)
async def test_an_update_goes_on(tmp_path: Path, operation: str, number: int, status: str) -> None:
    s3, earlier = TableS3(), ControlPlane(tmp_path, KEY, REGION)
    async with working(earlier, s3):
        client = Around(earlier.app(), KEY)
        await client.ok(CLOUDFORMATION, "CreateStack", StackName="app", TemplateBody=TEMPLATE, **CAPABLE)
        assert (await ended(client, "app"))["StackStatus"] == "CREATE_COMPLETE"
    changed = TEMPLATE.replace(
        "Second: {Type: AWS::Logs::LogGroup,", "New: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 7},"
    )
    changed = changed.replace("DependsOn: Second", "DependsOn: New")
    await killed(earlier, Kill(operation, number, after=False), s3, "UpdateStack", TemplateBody=changed)
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    client = Around(plane.app(), KEY)
    async with working(plane, s3):
        assert (await ended(client, "app"))["StackStatus"] == status, await reasons_of(client, "app")
        groups = plane.logs.groups(KEY.account_id, "")
        assert len(groups) == 2
        assert sorted(group.retention_days or 0 for group in groups) == [0, 7]
    await plane.close()


async def test_a_rollback_goes_on(tmp_path: Path) -> None:
    s3, earlier = TableS3(), ControlPlane(tmp_path, KEY, REGION)
    failing = TEMPLATE.replace("DependsOn: First}", "DependsOn: First, Properties: {RetentionInDays: 8}}")
    await killed(earlier, Kill("DeleteLogGroup", 1, after=True), s3, "CreateStack", TemplateBody=failing)
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    client = Around(plane.app(), KEY)
    async with working(plane, s3):
        assert (await ended(client, "app"))["StackStatus"] == "ROLLBACK_COMPLETE"
        assert plane.logs.groups(KEY.account_id, "") == []
    await plane.close()


async def test_work_of_a_key_that_is_gone_goes_no_further(tmp_path: Path) -> None:
    s3, earlier = TableS3(), ControlPlane(tmp_path, KEY, REGION)
    made = (await own(earlier, "CreateAccessKey", userName="admin"))["accessKey"]
    kill = Kill("CreateLogGroup", 2, after=False)
    kinds = stack_kinds(kill.over(earlier.handlers()), earlier.access, REGION, s3.connect)
    user = Around(earlier.app(), Credential(made["accessKeyId"], made["secretAccessKey"], KEY.account_id))
    async with earlier.control.stacks.work(kinds):
        await user.ok(CLOUDFORMATION, "CreateStack", StackName="app", TemplateBody=TEMPLATE, **CAPABLE)
        await asyncio.wait_for(kill.reached.wait(), 20)
    await own(earlier, "DeleteAccessKey", accessKeyId=made["accessKeyId"])
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    client = Around(plane.app(), KEY)
    async with working(plane, s3):
        assert (await ended(client, "app"))["StackStatus"] == "ROLLBACK_FAILED"
        assert "is not there any more" in await reasons_of(client, "app")
        await client.ok(CLOUDFORMATION, "DeleteStack", StackName="app")  # with rights that are there
        listed = (await client.ok(CLOUDFORMATION, "ListStacks"))["StackSummaries"]
        assert (await ended(client, listed[0]["StackId"]))["StackStatus"] == "DELETE_COMPLETE"
        assert plane.logs.groups(KEY.account_id, "") == []
    await plane.close()


async def test_a_database_of_an_earlier_release_gets_the_tables(tmp_path: Path) -> None:
    earlier = ControlPlane(tmp_path, KEY, REGION)
    with earlier.database.transaction() as connection:
        for table in ("stacks", "stack_events", "change_sets", "stored_parameters"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    await earlier.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    assert (await Around(plane.app(), KEY).ok(CLOUDFORMATION, "ListStacks"))["StackSummaries"] == []
    await plane.close()
