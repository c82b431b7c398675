"""Stacks by CloudFormation's operations: made, changed, rolled back, deleted, and who may."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emberbox.model.iam.access import Credential
from emberbox.spec.models import CLOUDFORMATION, IAM, LOGS, SSM, STS
from support.api_world import World
from support.around import Around, new_user, own, trust
from support.control_plane import ControlPlane
from support.stacks import TableS3, ended, events_of, reasons_of, working
from support.wire import KEY, REGION

NAMED = ["CAPABILITY_NAMED_IAM"]
TEMPLATE = """
Description: a role and a group
Parameters:
  Days: {Type: Number, Default: 7}
  Secret: {Type: String, NoEcho: true, Default: hidden}
Conditions:
  Kept: !Equals [!Ref Days, 7]
Resources:
  Policy:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: reads
      Roles: [!Ref Role]
      PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${Bucket.Arn}/*"}]}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
      Description: !Sub "of ${AWS::StackName}"
  Bucket:
    Type: AWS::S3::Bucket
    Properties: {VersioningConfiguration: {Status: Enabled}}
  Group:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: !Sub "/${AWS::StackName}/log", RetentionInDays: !Ref Days}
  Extra: {Type: AWS::Logs::LogGroup, Condition: Kept}
  Meta: {Type: AWS::CDK::Metadata, Properties: {Analytics: x}}
Outputs:
  RoleArn: {Value: !GetAtt Role.Arn, Description: words, Export: {Name: !Sub "${AWS::StackName}-role"}}
"""  # noqa: E501


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, KEY, REGION)
    yield plane
    await plane.close()


@pytest.fixture
async def s3(plane: ControlPlane) -> AsyncIterator[TableS3]:
    s3 = TableS3()
    async with working(plane, s3):
        yield s3


@pytest.fixture
def admin(plane: ControlPlane, s3: TableS3) -> Around:
    return Around(plane.app(), KEY)


async def make(client: Around, template: str = TEMPLATE, name: str = "app", **more: Any) -> dict[str, Any]:
    asked = {"Capabilities": NAMED, **more}
    await client.ok(CLOUDFORMATION, "CreateStack", StackName=name, TemplateBody=template, **asked)
    return await ended(client, name)


async def change(client: Around, template: str, name: str = "app", **more: Any) -> dict[str, Any]:
    asked = {"Capabilities": NAMED, **more}
    await client.ok(CLOUDFORMATION, "UpdateStack", StackName=name, TemplateBody=template, **asked)
    return await ended(client, name)


async def physical(client: Around, name: str = "app") -> dict[str, str]:
    found = (await client.ok(CLOUDFORMATION, "DescribeStackResources", StackName=name))["StackResources"]
    return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found}


async def test_a_stack_is_made_described_and_deleted(plane: ControlPlane, admin: Around, s3: TableS3) -> None:
    stack = await make(admin, Tags=[{"Key": "team", "Value": "red"}])
    assert stack["StackStatus"] == "CREATE_COMPLETE", await reasons_of(admin, "app")
    ids = await physical(admin)
    assert list(s3.buckets) == [ids["Bucket"]]
    assert ids["Bucket"].startswith("app-bucket-")
    assert s3.buckets[ids["Bucket"]]["put_bucket_versioning"] == {"Status": "Enabled"}
    role = (await admin.ok(IAM, "GetRole", RoleName=ids["Role"]))["Role"]
    assert (role["Description"], role["Tags"]) == ("of app", [{"Key": "team", "Value": "red"}])
    found = await admin.ok(IAM, "GetRolePolicy", RoleName=ids["Role"], PolicyName="reads")
    assert ids["Bucket"] in str(found["PolicyDocument"])
    groups = (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert {group["logGroupName"]: group.get("retentionInDays") for group in groups}["/app/log"] == 7
    assert stack["Outputs"] == [
        {"OutputKey": "RoleArn", "OutputValue": role["Arn"], "Description": "words", "ExportName": "app-role"}
    ]
    values = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    assert values == {"Days": "7", "Secret": "****"}
    names = [name for name, status in await events_of(admin, "app") if status == "CREATE_COMPLETE"]
    assert names.index("Role") < names.index("Policy")
    assert names.index("Bucket") < names.index("Policy")
    assert names[-1] == "app"

    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
    assert (await ended(admin, stack["StackId"]))["StackStatus"] == "DELETE_COMPLETE"
    assert s3.buckets == {}
    assert (await admin.refused(IAM, "GetRole", RoleName=ids["Role"]))[1] == "NoSuchEntity"
    assert (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"] == []
    status, code, text = await admin.refused(CLOUDFORMATION, "DescribeStacks", StackName="app")
    assert (status, code, text) == (400, "ValidationError", "Stack with id app does not exist")
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
    listed = (await admin.ok(CLOUDFORMATION, "ListStacks"))["StackSummaries"]
    assert [one["StackStatus"] for one in listed] == ["DELETE_COMPLETE"]


async def test_an_update_changes_replaces_adds_and_removes(plane: ControlPlane, admin: Around, s3: TableS3) -> None:
    await make(admin)
    before = await physical(admin)
    template = TEMPLATE.replace("/log", "/other").replace("of ${AWS::StackName}", "new").replace("Meta:", "Other:")
    stack = await change(admin, template, Parameters=[{"ParameterKey": "Days", "ParameterValue": "14"}])
    assert stack["StackStatus"] == "UPDATE_COMPLETE", await reasons_of(admin, "app")
    after = await physical(admin)
    assert after["Role"] == before["Role"]
    assert (before["Group"], after["Group"]) == ("/app/log", "/app/other")
    assert after.keys() == {"Policy", "Role", "Bucket", "Group", "Other"}  # Extra's condition does not hold any more
    assert (await admin.ok(IAM, "GetRole", RoleName=after["Role"]))["Role"]["Description"] == "new"
    groups = (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [("/app/other", 14)]
    again = await admin.refused(
        CLOUDFORMATION, "UpdateStack", StackName="app", UsePreviousTemplate=True, Capabilities=NAMED,
        Parameters=[{"ParameterKey": "Days", "UsePreviousValue": True}],
    )  # fmt: skip
    assert again == (400, "ValidationError", "No updates are to be performed.")


FAILING = TEMPLATE.replace("RetentionInDays: !Ref Days", "RetentionInDays: 8").replace("/log", "/failing")


async def test_a_creation_that_fails_is_undone(plane: ControlPlane, admin: Around, s3: TableS3) -> None:
    stack = await make(admin, FAILING)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Invalid retention value 8" in await reasons_of(admin, "app")
    assert s3.buckets == {}
    assert (await admin.ok(IAM, "ListRoles"))["Roles"] == []
    assert (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"] == []
    assert (await admin.refused(CLOUDFORMATION, "UpdateStack", StackName="app", TemplateBody=TEMPLATE))[0] == 400
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")


@pytest.mark.parametrize(("on_failure", "status"), [("DO_NOTHING", "CREATE_FAILED"), ("DELETE", "DELETE_COMPLETE")])
async def test_a_creation_that_fails_ends_as_asked(admin: Around, on_failure: str, status: str) -> None:
    made = await admin.ok(
        CLOUDFORMATION, "CreateStack", StackName="app", TemplateBody=FAILING, Capabilities=NAMED, OnFailure=on_failure
    )
    assert (await ended(admin, made["StackId"]))["StackStatus"] == status


async def test_an_update_that_fails_leads_back(plane: ControlPlane, admin: Around, s3: TableS3) -> None:
    """The role was changed, the group replaced, a bucket added and one removed when the update failed."""
    await make(admin)
    before = await physical(admin)
    template = FAILING.replace("of ${AWS::StackName}", "new").replace(
        "  Bucket:", "  Second: {Type: AWS::S3::Bucket}\n  Bucket:"
    )
    template = template.replace("  Extra: {", "  Last: {Type: AWS::Logs::LogGroup, DependsOn: Group}\n  Extra2: {")
    stack = await change(admin, template)
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", await reasons_of(admin, "app")
    assert await physical(admin) == before
    assert list(s3.buckets) == [before["Bucket"]]
    assert (await admin.ok(IAM, "GetRole", RoleName=before["Role"]))["Role"]["Description"] == "of app"
    groups = (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert {group["logGroupName"] for group in groups} == {before["Group"], before["Extra"]}
    assert (await admin.ok(CLOUDFORMATION, "GetTemplate", StackName="app"))["TemplateBody"] == TEMPLATE
    assert (await change(admin, TEMPLATE.replace("words", "other words")))["StackStatus"] == "UPDATE_COMPLETE"


async def test_a_creation_that_was_left_as_it_failed_is_rolled_back_when_asked(admin: Around, s3: TableS3) -> None:
    stack = await make(admin, FAILING, OnFailure="DO_NOTHING")
    assert (stack["StackStatus"], len(s3.buckets)) == ("CREATE_FAILED", 1)
    found = await admin.ok(CLOUDFORMATION, "RollbackStack", StackName="app", ClientRequestToken="back")
    assert found["StackId"] == stack["StackId"]
    assert (await ended(admin, "app"))["StackStatus"] == "ROLLBACK_COMPLETE"
    assert s3.buckets == {}
    refused = await admin.refused(CLOUDFORMATION, "RollbackStack", StackName="app")
    assert refused[1:] == (
        "ValidationError", f"Stack:{stack['StackId']} is in ROLLBACK_COMPLETE state and can not be rolled back.",
    )  # fmt: skip
    events = (await admin.ok(CLOUDFORMATION, "DescribeStackEvents", StackName="app"))["StackEvents"]
    assert "back" in {event.get("ClientRequestToken") for event in events if event["LogicalResourceId"] == "app"}


@pytest.mark.parametrize("is_asked", [True, False])
async def test_updates_that_were_left_as_they_failed_lead_back_past_them_all(
    plane: ControlPlane, admin: Around, s3: TableS3, is_asked: bool
) -> None:
    """To what the stack was when it was last whole: as RollbackStack asks, or when the next one fails and is undone."""
    await make(admin)
    before = await physical(admin)
    for name in ("first", "second"):
        template = FAILING.replace("of ${AWS::StackName}", name).replace("/failing", f"/{name}")
        stack = await change(admin, template, DisableRollback=True)
        assert stack["StackStatus"] == "UPDATE_FAILED"
    if is_asked:
        await admin.ok(CLOUDFORMATION, "RollbackStack", StackName="app")
        stack = await ended(admin, "app")
    else:
        stack = await change(admin, FAILING)
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", await reasons_of(admin, "app")
    assert await physical(admin) == before
    assert (await admin.ok(IAM, "GetRole", RoleName=before["Role"]))["Role"]["Description"] == "of app"
    groups = (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert {group["logGroupName"] for group in groups} == {before["Group"], before["Extra"]}
    assert (await admin.ok(CLOUDFORMATION, "GetTemplate", StackName="app"))["TemplateBody"] == TEMPLATE


async def test_what_was_there_before_a_stack_is_not_taken_over_nor_deleted(plane: ControlPlane, admin: Around) -> None:
    await World(plane).send(LOGS, "CreateLogGroup", logGroupName="/app/log")
    assert (await make(admin))["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "already exists" in await reasons_of(admin, "app")
    groups = (await World(plane).ok(LOGS, "DescribeLogGroups"))["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/app/log"]


async def test_policies_of_deletion_are_kept(admin: Around, s3: TableS3) -> None:
    template = """
Resources:
  Kept: {Type: AWS::S3::Bucket, DeletionPolicy: Retain}
  Gone: {Type: AWS::S3::Bucket}
"""
    await make(admin, template)
    ids = await physical(admin)
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
    listed = (await admin.ok(CLOUDFORMATION, "ListStacks"))["StackSummaries"]
    await ended(admin, listed[0]["StackId"])
    assert list(s3.buckets) == [ids["Kept"]]
    assert ("Kept", "DELETE_SKIPPED") in await events_of(admin, listed[0]["StackId"])


async def test_a_stack_that_cannot_be_deleted_says_why_and_can_be_retained(admin: Around, s3: TableS3) -> None:
    await make(admin, "Resources: {Bucket: {Type: AWS::S3::Bucket}, Group: {Type: AWS::Logs::LogGroup}}")
    s3.delete_bucket = refuse  # type: ignore[method-assign]
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
    stack = await ended(admin, "app")
    assert (stack["StackStatus"], stack["StackStatusReason"]) == (
        "DELETE_FAILED",
        "The following resource(s) failed to delete: [Bucket].",
    )
    assert "not empty" in await reasons_of(admin, "app")
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app", RetainResources=["Bucket"])
    assert (await ended(admin, stack["StackId"]))["StackStatus"] == "DELETE_COMPLETE"


def refuse(Bucket: str) -> Any:  # noqa: N803 - boto3's spelling
    raise ClientError({"Error": {"Code": "BucketNotEmpty", "Message": "it is not empty"}}, "DeleteBucket")


async def test_change_sets_are_looked_at_and_carried_out(admin: Around) -> None:
    async def create(name: str, kind: str, template: str) -> dict[str, Any]:
        asked = {"StackName": "app", "ChangeSetName": name, "ChangeSetType": kind}
        await admin.ok(CLOUDFORMATION, "CreateChangeSet", **asked, TemplateBody=template, Capabilities=NAMED)
        return await admin.ok(CLOUDFORMATION, "DescribeChangeSet", StackName="app", ChangeSetName=name)

    found = await create("first", "CREATE", TEMPLATE)
    assert (found["Status"], found["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert {one["ResourceChange"]["Action"] for one in found["Changes"]} == {"Add"}
    stack = (await admin.ok(CLOUDFORMATION, "DescribeStacks", StackName="app"))["Stacks"][0]
    assert stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    await admin.ok(CLOUDFORMATION, "ExecuteChangeSet", StackName="app", ChangeSetName="first")
    assert (await ended(admin, "app"))["StackStatus"] == "CREATE_COMPLETE"

    found = await create("second", "UPDATE", TEMPLATE.replace("/log", "/other").replace("  Meta:", "  Other:"))
    shown = {
        one["ResourceChange"]["LogicalResourceId"]: (
            one["ResourceChange"]["Action"],
            one["ResourceChange"].get("Replacement"),
        )
        for one in found["Changes"]
    }
    assert shown == {"Group": ("Modify", "True"), "Other": ("Add", None), "Meta": ("Remove", None)}
    empty = await create("empty", "UPDATE", TEMPLATE)
    assert (empty["Status"], empty["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert empty["StatusReason"].startswith("The submitted information didn't contain changes.")
    names = (await admin.ok(CLOUDFORMATION, "ListChangeSets", StackName="app"))["Summaries"]
    assert [one["ChangeSetName"] for one in names] == ["first", "second", "empty"]
    refused = await admin.refused(CLOUDFORMATION, "ExecuteChangeSet", StackName="app", ChangeSetName="empty")
    assert refused[:2] == (400, "InvalidChangeSetStatus")
    await admin.ok(CLOUDFORMATION, "ExecuteChangeSet", ChangeSetName=found["ChangeSetId"])
    assert (await ended(admin, "app"))["StackStatus"] == "UPDATE_COMPLETE"
    refused = await admin.refused(CLOUDFORMATION, "DescribeChangeSet", StackName="app", ChangeSetName="empty")
    assert refused[:2] == (404, "ChangeSetNotFound")
    await admin.ok(CLOUDFORMATION, "DeleteChangeSet", StackName="app", ChangeSetName="second")


async def tags_of(client: Around, s3: TableS3, ids: dict[str, str]) -> list[dict[str, str]]:
    """Return the tags that a stack's role and bucket have."""
    role = (await client.ok(IAM, "GetRole", RoleName=ids["Role"]))["Role"].get("Tags") or []
    bucket = s3.buckets[ids["Bucket"]].get("put_bucket_tagging", {}).get("TagSet", [])
    return [{tag["Key"]: tag["Value"] for tag in tags} for tags in (role, bucket)]


def pairs(**tags: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


async def test_other_tags_of_a_stack_are_given_to_what_it_has_already(admin: Around, s3: TableS3) -> None:
    await make(admin, Tags=pairs(team="red", stage="test"))
    ids = await physical(admin)
    asked = {"StackName": "app", "TemplateBody": TEMPLATE, "Capabilities": NAMED, "Tags": pairs(team="blue")}
    found = await admin.ok(CLOUDFORMATION, "CreateChangeSet", ChangeSetName="tags", **asked)
    found = await admin.ok(CLOUDFORMATION, "DescribeChangeSet", ChangeSetName=found["Id"])
    changes = {one["ResourceChange"]["LogicalResourceId"]: one["ResourceChange"] for one in found["Changes"]}
    assert changes.keys() == {"Role", "Bucket", "Group", "Extra"}
    for change_ in changes.values():
        assert (change_["Replacement"], change_["Scope"]) == ("False", ["Tags"])
        assert [detail["Target"] for detail in change_["Details"]] == [{"Attribute": "Tags"}]
    await admin.ok(CLOUDFORMATION, "ExecuteChangeSet", ChangeSetName=found["ChangeSetId"])
    assert (await ended(admin, "app"))["StackStatus"] == "UPDATE_COMPLETE", await reasons_of(admin, "app")
    assert await physical(admin) == ids
    assert await tags_of(admin, s3, ids) == [{"team": "blue"}] * 2
    refused = await admin.refused(CLOUDFORMATION, "UpdateStack", **asked)
    assert refused[2] == "No updates are to be performed."


async def test_tags_are_as_before_when_an_update_fails(admin: Around, s3: TableS3) -> None:
    await make(admin, Tags=pairs(team="red"))
    ids = await physical(admin)
    stack = await change(admin, FAILING.replace("of ${AWS::StackName}", "new"), Tags=pairs(team="blue"))
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", await reasons_of(admin, "app")
    assert stack["Tags"] == pairs(team="red")
    assert await tags_of(admin, s3, ids) == [{"team": "red"}] * 2
    assert (await change(admin, TEMPLATE, Tags=[]))["StackStatus"] == "UPDATE_COMPLETE"
    assert await tags_of(admin, s3, ids) == [{}, {}]


async def test_the_name_of_an_executed_change_set_is_free_again(admin: Around) -> None:
    for kind, template in (("CREATE", TEMPLATE), ("UPDATE", TEMPLATE.replace("/log", "/other"))):
        asked = {"StackName": "app", "ChangeSetName": "deploy", "Capabilities": NAMED}
        made = await admin.ok(CLOUDFORMATION, "CreateChangeSet", **asked, ChangeSetType=kind, TemplateBody=template)
        again = {**asked, "ChangeSetType": kind, "TemplateBody": template}
        assert (await admin.refused(CLOUDFORMATION, "CreateChangeSet", **again))[1] == "AlreadyExistsException"
        await admin.ok(CLOUDFORMATION, "ExecuteChangeSet", ChangeSetName=made["Id"])
        assert (await ended(admin, "app"))["StackStatus"] == f"{kind}_COMPLETE"
        found = await admin.ok(CLOUDFORMATION, "DescribeChangeSet", StackName="app", ChangeSetName="deploy")
        assert (found["ChangeSetId"], found["ExecutionStatus"]) == (made["Id"], "EXECUTE_COMPLETE")
    refused = await admin.refused(
        CLOUDFORMATION, "UpdateStack", StackName="app", UsePreviousTemplate=True, Capabilities=NAMED
    )
    assert refused == (400, "ValidationError", "No updates are to be performed.")


async def test_a_sam_template_of_plain_resources_is_deployed(admin: Around) -> None:
    sam = f"Transform: AWS::Serverless-2016-10-31\nGlobals: {{Function: {{Timeout: 3}}}}\n{TEMPLATE}"
    refused = await admin.refused(CLOUDFORMATION, "CreateStack", StackName="app", TemplateBody=sam, Capabilities=NAMED)
    assert refused[1:] == (
        "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_AUTO_EXPAND]",
    )  # fmt: skip
    made = await admin.ok(
        CLOUDFORMATION, "CreateChangeSet", StackName="app", ChangeSetName="one", ChangeSetType="CREATE",
        TemplateBody=sam, Capabilities=NAMED,
    )  # fmt: skip
    await admin.ok(CLOUDFORMATION, "ExecuteChangeSet", ChangeSetName=made["Id"])
    assert (await ended(admin, "app"))["StackStatus"] == "CREATE_COMPLETE"
    stages = {
        stage: (await admin.ok(CLOUDFORMATION, "GetTemplate", StackName="app", TemplateStage=stage))["TemplateBody"]
        for stage in ("Original", "Processed")
    }
    assert stages["Original"] == sam
    assert json.loads(stages["Processed"]).keys() & {"Transform", "Globals", "Resources"} == {"Resources"}
    found = await admin.ok(CLOUDFORMATION, "ValidateTemplate", TemplateBody=sam)
    assert found["DeclaredTransforms"] == ["AWS::Serverless-2016-10-31"]


async def check_a_stack_may_what_she_may_not(plane: ControlPlane, statement: list[dict[str, Any]]) -> None:
    """With this policy a user makes no log group, but a stack with one."""
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    await own(plane, "PutPolicy", userName="ann", policyName="p", policyDocument=document)
    ann = await new_user(plane, "ann")
    assert (await ann.refused(LOGS, "CreateLogGroup", logGroupName="/own"))[1] == "AccessDeniedException"
    assert (await make(ann, "Resources: {G: {Type: AWS::Logs::LogGroup}}"))["StackStatus"] == "CREATE_COMPLETE"


async def test_what_a_stack_does_for_its_caller_is_known_as_such(plane: ControlPlane, admin: Around) -> None:
    statement = [
        {"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "logs:*",
            "Resource": "*",
            "Condition": {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}},
        },
    ]
    await check_a_stack_may_what_she_may_not(plane, statement)


async def test_what_a_stack_does_leaves_no_wire(plane: ControlPlane, admin: Around) -> None:
    """On AWS services ask each other by TLS; who may do nothing without it may have a stack."""
    statement = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "logs:*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
    await check_a_stack_may_what_she_may_not(plane, statement)


async def test_stacks_import_what_others_export(admin: Around) -> None:
    await make(admin)
    user = """
Resources:
  Value: {Type: AWS::SSM::Parameter, Properties: {Name: /role, Type: String, Value: !ImportValue app-role}}
"""
    stack = await make(admin, user, "user")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    arn = (await admin.ok(SSM, "GetParameter", Name="/role"))["Parameter"]["Value"]
    assert arn.startswith("arn:aws:iam::")
    exports = (await admin.ok(CLOUDFORMATION, "ListExports"))["Exports"]
    assert [(one["Name"], one["Value"]) for one in exports] == [("app-role", arn)]
    refused = await admin.refused(CLOUDFORMATION, "DeleteStack", StackName="app")
    assert refused[2] == "Export app-role cannot be updated or deleted as it is in use by user"
    refused = await admin.refused(
        CLOUDFORMATION, "CreateStack", StackName="no", TemplateBody=user.replace("app-r", "x")
    )
    assert refused[2] == "No export named xole found."
    named_too = TEMPLATE.replace("${AWS::StackName}-role", "app-role")
    assert (await make(admin, named_too, "second"))["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "already exported by stack app" in await reasons_of(admin, "second")


@pytest.mark.parametrize(
    ("template", "code", "words"),
    [
        (TEMPLATE, "InsufficientCapabilitiesException", r"Requires capabilities : \[CAPABILITY_IAM\]"),
        ("Resources: {A: {Type: AWS::EC2::Instance}}", "ValidationError", "A: Resource type AWS::EC2::Instance is not"),
        (
            "Resources: {A: {Type: AWS::S3::Bucket, Properties: {Nope: 1}}}",
            "ValidationError",
            "Nope of AWS::S3::Bucket",
        ),
        ("Resources: {A: {Type: AWS::SSM::Parameter}}", "ValidationError", r"required key \[Type\]"),
        ("Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref B}}}", "ValidationError", r"\[B\]"),
        ("Resources: {A: {Type: AWS::S3::Bucket, DependsOn: A}}", "ValidationError", "Circular dependency"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(admin: Around, template: str, code: str, words: str) -> None:
    found = await admin.refused(CLOUDFORMATION, "CreateStack", StackName="app", TemplateBody=template)
    assert (found[0], found[1]) == (400, code)
    assert re.search(words, found[2]), found[2]
    assert (await admin.ok(CLOUDFORMATION, "DescribeStacks"))["Stacks"] == []


async def test_templates_are_summarised(admin: Around, s3: TableS3) -> None:
    found = await admin.ok(CLOUDFORMATION, "GetTemplateSummary", TemplateBody=TEMPLATE)
    assert found["Capabilities"] == ["CAPABILITY_IAM"]
    assert [(one["ParameterKey"], one["ParameterType"], one["NoEcho"]) for one in found["Parameters"]] == [
        ("Days", "Number", False),
        ("Secret", "String", True),
    ]
    assert "AWS::IAM::Role" in found["ResourceTypes"]
    s3.objects["b", "k/t.yaml"] = TEMPLATE.encode()
    for url in ("https://b.s3.us-east-1.amazonaws.com/k/t.yaml", "http://127.0.0.1:9000/b/k/t.yaml"):
        assert (await admin.ok(CLOUDFORMATION, "ValidateTemplate", TemplateURL=url))["Description"] == found[
            "Description"
        ]
    refused = await admin.refused(CLOUDFORMATION, "ValidateTemplate", TemplateURL="http://127.0.0.1/b/none")
    assert "S3 error" in refused[2]
    refused = await admin.refused(CLOUDFORMATION, "ValidateTemplate", TemplateURL="file:///etc/passwd")
    assert "valid S3 object" in refused[2]


async def test_a_stack_has_no_more_rights_than_its_user(plane: ControlPlane, admin: Around) -> None:
    user = await new_user(plane, "ann", "cloudformation:*", "logs:*")
    stack = await make(user)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "user/ann is not authorized to perform" in await reasons_of(admin, "app")
    assert (await user.refused(SSM, "GetParameter", Name="x"))[1] == "AccessDeniedException"
    nobody = await new_user(plane, "eve")
    assert (await nobody.refused(CLOUDFORMATION, "DescribeStacks", StackName="app"))[1] == "AccessDenied"


async def test_a_stack_works_with_its_service_role(plane: ControlPlane, admin: Around, s3: TableS3) -> None:
    document = trust({"Service": "cloudformation.amazonaws.com"})
    role = (await admin.ok(IAM, "CreateRole", RoleName="deploys", AssumeRolePolicyDocument=document))["Role"]["Arn"]
    everything = "arn:aws:iam::aws:policy/AdministratorAccess"
    user = await new_user(plane, "ann", "cloudformation:*")
    asked = {"StackName": "app", "TemplateBody": TEMPLATE, "Capabilities": NAMED, "RoleARN": role}
    assert "iam:PassRole" in (await user.refused(CLOUDFORMATION, "CreateStack", **asked))[2]
    user = await new_user(plane, "bob", "cloudformation:*", "iam:PassRole")
    await user.ok(CLOUDFORMATION, "CreateStack", **asked)
    assert (await ended(user, "app"))["StackStatus"] == "ROLLBACK_COMPLETE"  # the role may do nothing yet
    await admin.ok(IAM, "AttachRolePolicy", RoleName="deploys", PolicyArn=everything)
    await user.ok(CLOUDFORMATION, "CreateStack", **{**asked, "StackName": "app2"})
    assert (await ended(user, "app2"))["StackStatus"] == "CREATE_COMPLETE", await reasons_of(admin, "app2")
    assert {caller.credential.name for caller in s3.callers if caller.credential} == {"deploys"}
    other = {**asked, "StackName": "app3", "RoleARN": role.replace("deploys", "nobody")}
    assert "there is no such role" in (await user.refused(CLOUDFORMATION, "CreateStack", **other))[2]


async def test_stacks_of_another_account_are_not_there(plane: ControlPlane, admin: Around) -> None:
    stack = await make(admin, "Resources: {A: {Type: AWS::S3::Bucket}}")
    await own(plane, "CreateAccount", accountId="111111111111", accountName="other")
    made = (await own(plane, "CreateAccessKey", accountId="111111111111", userName="admin"))["accessKey"]
    everything = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    )
    await own(plane, "PutPolicy", accountId="111111111111", userName="admin", policyName="p", policyDocument=everything)
    other = Around(plane.app(), Credential(made["accessKeyId"], made["secretAccessKey"], "111111111111"))
    assert (await other.ok(CLOUDFORMATION, "DescribeStacks"))["Stacks"] == []
    assert (await other.refused(CLOUDFORMATION, "DescribeStacks", StackName="app"))[0] == 400
    assert (await other.refused(CLOUDFORMATION, "DescribeStacks", StackName=stack["StackId"]))[0] in (400, 403)


async def test_stored_parameters_are_put_told_and_deleted(admin: Around) -> None:
    asked = {"Name": "/a/b", "Value": "1", "Type": "String"}
    assert (await admin.ok(SSM, "PutParameter", **asked))["Version"] == 1
    assert (await admin.refused(SSM, "PutParameter", **asked))[1] == "ParameterAlreadyExists"
    assert (await admin.ok(SSM, "PutParameter", Name="/a/b", Value="2", Overwrite=True))["Version"] == 2
    found = (await admin.ok(SSM, "GetParameter", Name="/a/b"))["Parameter"]
    assert (found["Value"], found["Version"], found["Type"]) == ("2", 2, "String")
    assert (await admin.ok(SSM, "GetParameter", Name=found["ARN"]))["Parameter"] == found
    several = await admin.ok(SSM, "GetParameters", Names=["/a/b", "none"])
    assert (several["Parameters"], several["InvalidParameters"]) == ([found], ["none"])
    assert "SecureString" in (await admin.refused(SSM, "PutParameter", Name="s", Value="1", Type="SecureString"))[2]
    await admin.ok(SSM, "DeleteParameter", Name="/a/b")
    assert (await admin.refused(SSM, "GetParameter", Name="/a/b"))[:2] == (400, "ParameterNotFound")


async def test_a_stack_has_the_tags_of_the_session_that_asked(plane: ControlPlane, admin: Around) -> None:
    """A denial by a session's tag would else end where a stack begins."""
    statement = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "logs:CreateLogGroup",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/team": "blue"}},
        },
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    await own(plane, "PutRole", roleName="app", policyDocument=document)
    asked = {"RoleArn": f"arn:aws:iam::{KEY.account_id}:role/app", "RoleSessionName": "job"}
    for team, status in (("red", "CREATE_COMPLETE"), ("blue", "ROLLBACK_COMPLETE")):
        tags = [{"Key": "team", "Value": team}]
        session = admin.by((await admin.ok(STS, "AssumeRole", **asked, Tags=tags))["Credentials"])
        stack = await make(session, "Resources: {G: {Type: AWS::Logs::LogGroup}}", team)
        assert stack["StackStatus"] == status


async def test_cdks_log_retention_needs_no_function(admin: Around) -> None:
    template = """
Resources:
  LogRetentionaae0aa3c5b4d4f87b02d85b201efdd8aFD4BFC8A:
    Type: AWS::Lambda::Function
    Properties: {Handler: index.handler, Runtime: nodejs22.x, Timeout: 900, Code: {S3Bucket: b, S3Key: k}, Role: r}
  Kept:
    Type: Custom::LogRetention
    Properties:
      ServiceToken: !GetAtt LogRetentionaae0aa3c5b4d4f87b02d85b201efdd8aFD4BFC8A.Arn
      LogGroupName: /aws/lambda/microvms/web
      RetentionInDays: 14
"""
    stack = await make(admin, template)
    assert stack["StackStatus"] == "CREATE_COMPLETE"

    async def days() -> list[int | None]:
        found = await admin.ok(LOGS, "DescribeLogGroups", logGroupNamePrefix="/aws/lambda/microvms/web")
        return [group.get("retentionInDays") for group in found["logGroups"]]

    assert await days() == [14]
    without = template.replace("      RetentionInDays: 14\n", "")
    await admin.ok(CLOUDFORMATION, "UpdateStack", StackName="app", TemplateBody=without)
    assert (await ended(admin, "app"))["StackStatus"] == "UPDATE_COMPLETE"
    assert await days() == [None]
    await admin.ok(CLOUDFORMATION, "DeleteStack", StackName="app")
    assert (await ended(admin, stack["StackId"]))["StackStatus"] == "DELETE_COMPLETE"
    assert await days() == [None]  # the group is not the stack's
    other = template.replace("LogRetentionaae0", "Mine")
    assert (
        "AWS::Lambda::Function"
        in (await admin.refused(CLOUDFORMATION, "CreateStack", StackName="no", TemplateBody=other))[2]
    )
