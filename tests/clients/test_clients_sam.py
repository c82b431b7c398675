"""The AWS SAM CLI: templates of what is here, from their validation to their deletion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from support.aws_cli import AwsCli
from support.images import PROBE_DOCKERFILE, make_zip, probe_files
from support.third_party import CLIENTS, Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "AWS SAM CLI"
SETTINGS = {"SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "1"}
"""It says nothing of itself to AWS, and looks every second instead of every five."""

MANAGED = "aws-sam-cli-managed-default"
SMALL = """\
Transform: AWS::Serverless-2016-10-31
Parameters: {Days: {Type: Number, Default: 7}, Name: {Type: String, Default: /sam/one}}
Resources:
  First: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: !Ref Name}}
  Second: {Type: AWS::Logs::LogGroup, DependsOn: First, Properties: {RetentionInDays: !Ref Days}}
"""
IMPOSSIBLE_DAYS = "Days=8"

Sam = Callable[..., str]
"""Runs the command line; see `Desk.run`."""


@pytest.fixture(scope="module")
def sam(desk: Desk) -> Sam:
    """The command line, beside two templates."""
    program = install_python(read_clients()[CLIENT]) / "sam"
    shutil.copy(CLIENTS / "sam/template.yaml", desk.directory)
    (desk.directory / "small.yaml").write_text(SMALL)

    def run(*arguments: str, **more: Any) -> str:
        return desk.run(program, *arguments, more=SETTINGS, **more)

    return run


@pytest.fixture(scope="module")
def aws(desk: Desk) -> AwsCli:
    return AwsCli(desk)


@pytest.fixture(scope="module")
def bucket(sam: Sam, aws: AwsCli) -> str:
    """The bucket of the stack that SAM makes for itself."""
    said = sam("package", "--resolve-s3", "--template-file", "small.yaml", "--output-template-file", "packaged.yaml")
    assert "Successfully packaged artifacts" in said
    resources = aws.call("cloudformation", "describe-stack-resources", "--stack-name", MANAGED)["StackResources"]
    return str(next(one["PhysicalResourceId"] for one in resources if one["ResourceType"] == "AWS::S3::Bucket"))


def lines(said: str) -> list[dict[str, Any]]:
    """Return what SAM says with `--output json`, of which some is plain text. Any: JSON."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def status_of(aws: AwsCli, stack: str) -> str:
    found = aws.call("cloudformation", "describe-stacks", "--stack-name", stack)["Stacks"][0]
    return str(found["StackStatus"])


def groups_of(aws: AwsCli, stack: str) -> dict[str, str]:
    found = aws.call("cloudformation", "describe-stack-resources", "--stack-name", stack)["StackResources"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


def test_templates_are_validated_built_and_packaged(sam: Sam, aws: AwsCli, bucket: str, desk: Desk) -> None:
    """Templates are validated, built and packaged.

    `sam validate`, `validate --lint` with the schema that AWS publishes of images, `build`, `package --resolve-s3` with
    the stack that SAM makes for itself (`aws-sam-cli-managed-default`: bucket and bucket policy), twice.
    """
    assert "is a valid SAM Template" in sam("validate")
    assert "is a valid SAM Template" in sam("validate", "--lint")
    assert "Build Succeeded" in sam("build", "--template-file", "small.yaml")
    shutil.rmtree(desk.directory / ".aws-sam")
    sam("package", "--resolve-s3", "--output-template-file", "packaged.yaml")
    assert status_of(aws, MANAGED) == "CREATE_COMPLETE"
    policy = json.loads(aws.call("s3api", "get-bucket-policy", "--bucket", bucket)["Policy"])
    assert {one["Effect"] for one in policy["Statement"]} == {"Allow", "Deny"}
    assert aws.call("s3api", "get-bucket-versioning", "--bucket", bucket)["Status"] == "Enabled"


def test_an_image_is_deployed_changed_and_deleted(sam: Sam, aws: AwsCli, bucket: str, desk: Desk) -> None:
    """An image is deployed, changed and deleted, with its role, bucket and log group.

    `sam deploy --resolve-s3` with `--no-execute-changeset` and without, a microVM of the image that is asked by its
    endpoint's name, `deploy` without a change and with one of parameters and tags, `list resources`, `list
    stack-outputs`, `logs --cw-log-group`, `delete` with what is in the bucket.
    """
    (desk.directory / "app.zip").write_bytes(make_zip(probe_files(PROBE_DOCKERFILE)))
    aws.run("s3", "cp", "app.zip", f"s3://{bucket}/artifacts/app.zip")
    stack = ("--stack-name", "by-sam")
    where = ("--resolve-s3", "--s3-prefix", "by-sam")
    deploy = ("deploy", *stack, *where, "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset")
    artifact = ("--parameter-overrides", f"Artifact=s3://{bucket}/artifacts/app.zip")
    said = sam(*deploy, *artifact, "--no-execute-changeset", "--tags", "team=red")
    assert "Changeset created successfully" in said
    assert status_of(aws, "by-sam") == "REVIEW_IN_PROGRESS"
    said = sam(*deploy, *artifact, "--tags", "team=red", timeout_s=1500)
    assert "Successfully created/updated stack - by-sam" in said

    shown = json.loads(sam("list", "stack-outputs", *stack, "--output", "json"))
    outputs = {one["OutputKey"]: one["OutputValue"] for one in shown}
    microvm_id, answer = aws.ask_microvm(outputs["ImageArn"])
    assert answer["hostname"] == microvm_id
    resources = {
        one["LogicalResourceId"]: one["PhysicalResourceId"]
        for one in json.loads(sam("list", "resources", *stack, "--output", "json"))
    }
    assert resources == groups_of(aws, "by-sam")
    assert resources["Image"] == outputs["ImageArn"]
    assert "probe is listening" in sam("logs", "--cw-log-group", resources["Log"])

    assert "No changes to deploy" in sam(*deploy, "--no-fail-on-empty-changeset", "--tags", "team=red")
    said = sam(*deploy, "--parameter-overrides", "Days=14", "--tags", "team=blue")
    assert "Successfully created/updated stack - by-sam" in said
    groups = aws.call("logs", "describe-log-groups", "--log-group-name-prefix", resources["Log"])["logGroups"]
    assert groups[0]["retentionInDays"] == 14
    image = aws.call("lambda-microvms", "get-microvm-image", "--image-identifier", outputs["ImageArn"])
    assert (image["tags"], image["latestActiveImageVersion"]) == ({"team": "blue"}, "1.0"), "tags build nothing"

    said = sam("delete", *stack, "--s3-bucket", bucket, "--s3-prefix", "by-sam", "--no-prompts")
    assert "Deleted successfully" in said
    assert "by-sam" not in str(aws.call("cloudformation", "describe-stacks")["Stacks"])
    assert aws.call("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", "by-sam/").get("Contents") is None


def test_what_fails_ends_as_asked(sam: Sam, aws: AwsCli, bucket: str) -> None:
    """What fails ends as asked.

    `sam deploy --output json` with `--express`, `--disable-rollback` twice over and the `rollback-stack` of the AWS CLI
    that SAM then names, `--on-failure DELETE` of a creation and of a change, `delete --express`.
    """
    stack = ("--stack-name", "fails")
    where = ("--s3-bucket", bucket, "--s3-prefix", "fails")
    deploy = ("deploy", *stack, *where, "--template-file", "small.yaml", "--output", "json")
    said = sam(*deploy, "--on-failure", "DELETE", "--parameter-overrides", IMPOSSIBLE_DAYS, check=False)
    assert lines(said)[-1]["status"] == "failure"
    assert "Invalid retention value 8" in said
    assert "fails" not in str(aws.call("cloudformation", "describe-stacks")["Stacks"])

    said = sam(*deploy, "--express")
    assert (lines(said)[-1]["status"], lines(said)[-1]["express"]) == ("success", True)
    whole = groups_of(aws, "fails")
    for name in ("/sam/two", "/sam/three"):
        changed = ("--parameter-overrides", IMPOSSIBLE_DAYS, f"Name={name}")
        said = sam(*deploy, "--disable-rollback", *changed, check=False)
        assert "rollback-stack --stack-name fails" in said
        assert (status_of(aws, "fails"), groups_of(aws, "fails")["First"]) == ("UPDATE_FAILED", name)
    aws.call("cloudformation", "rollback-stack", "--stack-name", "fails")
    aws.run("cloudformation", "wait", "stack-rollback-complete", "--stack-name", "fails")
    assert groups_of(aws, "fails") == whole
    said = sam(*deploy, "--on-failure", "DELETE", *changed, check=False)
    assert "has rolled back successfully" in said
    assert (status_of(aws, "fails"), groups_of(aws, "fails")) == ("UPDATE_ROLLBACK_COMPLETE", whole)
    assert "Deleted successfully" in sam("delete", *stack, *where, "--no-prompts", "--express")


def test_a_stack_is_synchronised(sam: Sam, aws: AwsCli, bucket: str, desk: Desk) -> None:
    """A stack is made and changed by `sam sync`, which uses no change sets."""
    program = str(install_python(read_clients()[CLIENT]) / "sam")
    where = ("--stack-name", "synced", "--s3-bucket", bucket, "--s3-prefix", "synced")
    sync = (
        *("bash", "-c", 'echo y | "$@"', "bash", program, "sync", *where, "--template-file", "small.yaml"),
        *("--no-watch", "--no-dependency-layer", "--capabilities", "CAPABILITY_AUTO_EXPAND"),
    )
    assert "Stack creation succeeded" in desk.run(*sync, more=SETTINGS, check=False)
    changed = ("--parameter-overrides", "Days=14")
    assert "Stack update succeeded" in desk.run(*sync, *changed, more=SETTINGS, check=False)
    group = groups_of(aws, "synced")["Second"]
    found = aws.call("logs", "describe-log-groups", "--log-group-name-prefix", group)["logGroups"]
    assert found[0]["retentionInDays"] == 14
    assert "Deleted successfully" in sam("delete", *where, "--no-prompts")
    shutil.rmtree(desk.directory / ".aws-sam")
