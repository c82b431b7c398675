"""CloudFormation by unmodified clients: boto3, the AWS CLI, `emberbox apply`; and an image in a stack."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import WaiterError

from emberbox.time_limits import limit_s
from support.images import BUCKET, BUILD_ROLE, PROBE_DOCKERFILE, make_zip, probe_files, unique
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.conformance

BIN = Path(sys.executable).parent
ONCE = Config(retries={"total_max_attempts": 1}, proxies={})
TEMPLATE = """
Parameters: {Days: {Type: Number, Default: 7}}
Resources:
  Bucket: {Type: AWS::S3::Bucket, Properties: {VersioningConfiguration: {Status: Enabled}}}
  Group: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: !Ref Days}}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
      Policies:
        - PolicyName: reads
          PolicyDocument:
            Version: 2012-10-17
            Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${Bucket.Arn}/*"}]
Outputs: {Bucket: {Value: !Ref Bucket}}
"""
IMAGE = """
Parameters: {Uri: {Type: String}, Base: {Type: String}, Role: {Type: String}}
Resources:
  Image:
    Type: AWS::Lambda::MicrovmImage
    Properties:
      BaseImageArn: !Ref Base
      BuildRoleArn: !Ref Role
      CodeArtifact: {Uri: !Ref Uri}
      CpuConfigurations: [{Architecture: ARM_64}]
      Resources: [{MinimumMemoryInMiB: "512"}]
      EnvironmentVariables: [{Key: STAGE, Value: test}]
      Tags: [{Key: team, Value: red}]
Outputs: {Arn: {Value: !Ref Image}, Version: {Value: !GetAtt Image.LatestActiveImageVersion}}
"""


@pytest.fixture
def stack(session: boto3.Session) -> Iterator[str]:
    """A stack's name; the stack is gone afterwards, and everything of it."""
    name, client = unique("stack"), session.client("cloudformation", config=ONCE)
    yield name
    client.delete_stack(StackName=name)
    client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def wait(client: Any, what: str, name: str, seconds: float = 60) -> None:
    config = {"Delay": 1, "MaxAttempts": int(limit_s(seconds))}
    client.get_waiter(what).wait(StackName=name, WaiterConfig=config)


def status_of(client: Any, name: str) -> str:
    status: str = client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return status


def test_boto3_makes_changes_and_deletes_a_stack(session: boto3.Session, stack: str) -> None:
    client, s3 = session.client("cloudformation", config=ONCE), session.client("s3", config=ONCE)
    asked = {"StackName": stack, "TemplateBody": TEMPLATE, "Capabilities": ["CAPABILITY_IAM"]}
    client.create_stack(**asked)
    wait(client, "stack_create_complete", stack)
    outputs = client.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    assert s3.get_bucket_versioning(Bucket=outputs[0]["OutputValue"])["Status"] == "Enabled"
    days = [{"ParameterKey": "Days", "ParameterValue": "14"}]
    client.update_stack(StackName=stack, UsePreviousTemplate=True, Parameters=days, Capabilities=["CAPABILITY_IAM"])
    wait(client, "stack_update_complete", stack)
    group = client.describe_stack_resource(StackName=stack, LogicalResourceId="Group")["StackResourceDetail"]
    found = session.client("logs").describe_log_groups(logGroupNamePrefix=group["PhysicalResourceId"])["logGroups"]
    assert found[0]["retentionInDays"] == 14
    events = [event for page in client.get_paginator("describe_stack_events").paginate(StackName=stack)
              for event in page["StackEvents"]]  # fmt: skip
    assert events[0]["ResourceStatus"] == "UPDATE_COMPLETE"
    assert len(client.list_stack_resources(StackName=stack)["StackResourceSummaries"]) == 3


def test_the_cli_deploys_a_template(environment: dict[str, str], stack: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TEMPLATE)

    def deploy(*more: str) -> str:
        time.sleep(1)  # the CLI names change sets by the second
        command = [
            str(BIN / "aws"), "cloudformation", "deploy", "--stack-name", stack, "--template-file",
            str(tmp_path / "t.yaml"), "--capabilities", "CAPABILITY_IAM", *more,
        ]  # fmt: skip
        done = subprocess.run(
            command, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Successfully created/updated stack" in deploy()
    assert "Successfully created/updated stack" in deploy("--parameter-overrides", "Days=14")
    assert "No changes to deploy" in deploy("--no-fail-on-empty-changeset", "--parameter-overrides", "Days=14")


def test_the_cli_packages_and_deploys_a_template_of_sams(
    environment: dict[str, str], session: boto3.Session, stack: str, tmp_path: Path
) -> None:
    """Through S3, as `sam deploy` does it too: the transform has nothing to make here and is no obstacle."""
    session.client("s3", config=ONCE).create_bucket(Bucket=BUCKET)
    sam = "Transform: AWS::Serverless-2016-10-31\nGlobals: {Function: {Timeout: 3}}\n"
    (tmp_path / "t.yaml").write_text(sam + TEMPLATE)

    def run(*arguments: str) -> str:
        command = [str(BIN / "aws"), "cloudformation", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("package", "--template-file", "t.yaml", "--s3-bucket", BUCKET, "--output-template-file", "out.yaml")
    deploy = ("deploy", "--stack-name", stack, "--template-file", "out.yaml", "--s3-bucket", BUCKET,
              "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")  # fmt: skip
    assert "Successfully created/updated stack" in run(*deploy)
    time.sleep(1)  # the CLI names change sets by the second
    assert "No changes to deploy" in run(*deploy, "--no-fail-on-empty-changeset")
    client = session.client("cloudformation", config=ONCE)
    assert client.get_template(StackName=stack)["TemplateBody"].keys().isdisjoint({"Transform", "Globals"})


def test_emberbox_applies_a_template(server: Server, stack: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TEMPLATE)

    def apply(*more: str) -> subprocess.CompletedProcess[str]:
        command = server.command("apply", str(tmp_path / "t.yaml"), "--stack", stack, *more)
        return subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=300)

    made = apply()
    assert made.returncode == 0, made.stderr
    assert f"Bucket = {stack}-bucket-" in made.stdout
    failed = apply("--parameter", "Days=6")
    assert failed.returncode == 1
    assert "Invalid retention value 6" in failed.stdout
    assert f"{stack} is UPDATE_ROLLBACK_COMPLETE" in failed.stderr


def test_an_image_is_built_as_a_resource(session: boto3.Session, server: Server, stack: str) -> None:
    client, s3 = session.client("cloudformation", config=ONCE), session.client("s3", config=ONCE)
    s3.create_bucket(Bucket=BUCKET)
    key = f"{stack}.zip"
    s3.put_object(Bucket=BUCKET, Key=key, Body=make_zip(probe_files(PROBE_DOCKERFILE)))
    values = {
        "Uri": f"s3://{BUCKET}/{key}",
        "Base": f"arn:aws:lambda:{server.endpoints['region']}:aws:microvm-image:debian12-1",
        "Role": BUILD_ROLE,
    }
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    client.create_stack(StackName=stack, TemplateBody=IMAGE, Parameters=given)
    wait(client, "stack_create_complete", stack, 600)
    found = {
        one["OutputKey"]: one["OutputValue"] for one in client.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    }
    assert found["Version"] == "1.0"
    image = session.client("lambda-microvms").get_microvm_image(imageIdentifier=found["Arn"])
    assert (image["state"], image["tags"]) == ("CREATED", {"team": "red"})
    assert image["name"].startswith(f"{stack}-Image-")


def test_a_build_that_fails_is_undone_and_says_why(session: boto3.Session, server: Server, stack: str) -> None:
    client = session.client("cloudformation", config=ONCE)
    values = {
        "Uri": f"s3://{BUCKET}/{unique('none')}.zip",
        "Base": f"arn:aws:lambda:{server.endpoints['region']}:aws:microvm-image:debian12-1",
        "Role": BUILD_ROLE,
    }
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    client.create_stack(StackName=stack, TemplateBody=IMAGE, Parameters=given)
    with pytest.raises(WaiterError, match="ROLLBACK"):
        wait(client, "stack_create_complete", stack, 300)
    wait_for("the stack is rolled back", lambda: status_of(client, stack) == "ROLLBACK_COMPLETE", 60)
    events = client.describe_stack_events(StackName=stack)["StackEvents"]
    assert any("S3_NO_SUCH" in event.get("ResourceStatusReason", "") for event in events)
    images = session.client("lambda-microvms").list_microvm_images(nameFilter=stack)["items"]
    assert images == []
