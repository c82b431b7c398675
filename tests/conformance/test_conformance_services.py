"""The services around, by unmodified boto3 and AWS CLI that `emberbox env` leads to the server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from support.aws import refusal
from support.images import unique
from support.server import Server

pytestmark = pytest.mark.conformance

BIN = Path(sys.executable).parent
SCRIPTS = Path(__file__).parent / "javascript"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        },
        {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"},
    ],
}
LISTS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["lambda:List*", "s3:ListAllMyBuckets"], "Resource": "*"}],
}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
ONCE = Config(retries={"total_max_attempts": 1}, proxies={})


@pytest.fixture
def role(session: boto3.Session) -> Iterator[str]:
    """A role that clients make as for AWS; everything of it is gone afterwards."""
    iam, name = session.client("iam", config=ONCE), unique("role")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Description="made by a test")
    yield name
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=name)
    assert refusal(iam.get_role, RoleName=name)[:2] == (404, "NoSuchEntity")


def test_a_role_is_made_and_its_session_is_good_for_the_api_and_for_s3(session: boto3.Session, role: str) -> None:
    iam, sts = session.client("iam", config=ONCE), session.client("sts", config=ONCE)
    iam.put_role_policy(RoleName=role, PolicyName="lists", PolicyDocument=json.dumps(LISTS))
    iam.attach_role_policy(RoleName=role, PolicyArn=BASIC)
    assert iam.get_role_policy(RoleName=role, PolicyName="lists")["PolicyDocument"] == LISTS
    shown = iam.get_role(RoleName=role)["Role"]
    assert shown["AssumeRolePolicyDocument"] == TRUST
    iam.get_waiter("role_exists").wait(RoleName=role, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    assert role in [one["RoleName"] for page in iam.get_paginator("list_roles").paginate() for one in page["Roles"]]

    assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/admin"
    made = sts.assume_role(RoleArn=shown["Arn"], RoleSessionName="job")
    key = made["Credentials"]
    signed = {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
        "aws_session_token": key["SessionToken"],
        "config": ONCE,
    }
    arn = f"arn:aws:sts::000000000000:assumed-role/{role}/job"
    assert session.client("sts", **signed).get_caller_identity()["Arn"] == arn == made["AssumedRoleUser"]["Arn"]
    assert "items" in session.client("lambda-microvms", **signed).list_microvms()
    assert "Buckets" in session.client("s3", **signed).list_buckets()
    status, code, text = refusal(session.client("iam", **signed).list_roles)
    assert (status, code) == (403, "AccessDenied")
    assert text.startswith(f"User: {arn} is not authorized to perform: iam:ListRoles")
    iam.delete_role_policy(RoleName=role, PolicyName="lists")
    assert refusal(session.client("lambda-microvms", **signed).list_microvms)[0] == 403


def test_who_somebody_is_may_be_asked_by_a_presigned_url(session: boto3.Session) -> None:
    url = session.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    with urllib.request.urlopen(url) as answer:
        assert b"<Arn>arn:aws:iam::000000000000:user/admin</Arn>" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("GetCallerIdentity", "GetSessionToken"))
    with refused.value as answer:
        assert b"<Code>SignatureDoesNotMatch</Code>" in answer.read()


def test_boto3_assumes_a_role_by_its_configuration(
    session: boto3.Session, role: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile with role_arn: boto3 gets and renews the credentials itself."""
    profile = (
        "[profile worker]\nregion = us-east-1\ncredential_source = Environment\n"
        f"role_arn = arn:aws:iam::000000000000:role/{role}\n"
    )
    (tmp_path / "config").write_text(profile)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    worker = boto3.Session(profile_name="worker")
    assert f":assumed-role/{role}/botocore-session-" in worker.client("sts").get_caller_identity()["Arn"]


def test_quotas_metrics_and_networks_are_answered(session: boto3.Session) -> None:
    quotas = session.client("service-quotas", config=ONCE)
    assert quotas.get_service_quota(ServiceCode="lambda", QuotaCode="L-535CA9B6")["Quota"]["Value"] == 5.0
    pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="lambda", PaginationConfig={"PageSize": 4})
    assert len({quota["QuotaCode"] for page in pages for quota in page["Quotas"]}) == 18
    period = {"StartTime": "2026-01-01T00:00:00Z", "EndTime": "2026-01-01T01:00:00Z"}
    found = session.client("cloudwatch", config=ONCE).get_metric_statistics(
        Namespace="AWS/LambdaMicroVMs", MetricName="CPUUtilization", Period=60, Statistics=["Average"], **period
    )
    assert found["Datapoints"] == []
    ec2 = session.client("ec2", config=ONCE)
    for vpc in ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]:
        asked = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        assert ec2.describe_subnets(Filters=asked)["Subnets"]
    assert "SecurityGroups" in ec2.describe_security_groups()


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "status", "code"),
    [
        ("ssm", "describe_parameters", {}, 404, "UnknownOperationException"),
        ("cloudwatch", "describe_alarms", {}, 404, "UnknownOperationException"),
        ("ec2", "describe_instances", {}, 400, "InvalidAction"),
        ("iam", "list_users", {}, 400, "InvalidAction"),
        ("sts", "get_access_key_info", {"AccessKeyId": "A" * 20}, 400, "InvalidAction"),
        ("secretsmanager", "list_secrets", {}, 404, "UnknownOperationException"),
        ("route53", "list_hosted_zones", {}, 501, "NotImplemented"),
    ],
)
def test_what_is_not_offered_says_so_to_its_own_client(
    session: boto3.Session, service: str, operation: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    found = refusal(getattr(session.client(service, config=ONCE), operation), **parameters)
    assert found[:2] == (status, code)
    assert "is not offered by Emberbox" in found[2]


def test_the_cli_makes_and_assumes_a_role(environment: dict[str, str], tmp_path: Path) -> None:
    def aws(*arguments: str, **more: str) -> Any:
        command = [str(BIN / "aws"), *arguments, "--output", "json"]
        done = subprocess.run(
            command, env={**environment, "HOME": str(tmp_path), **more}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    name = unique("cli-role")
    assert aws("sts", "get-caller-identity")["Account"] == "000000000000"
    made = aws("iam", "create-role", "--role-name", name, "--assume-role-policy-document", json.dumps(TRUST))
    document = json.dumps(LISTS)
    aws("iam", "put-role-policy", "--role-name", name, "--policy-name", "p", "--policy-document", document)
    assert aws("iam", "list-role-policies", "--role-name", name)["PolicyNames"] == ["p"]
    assumed = aws("sts", "assume-role", "--role-arn", made["Role"]["Arn"], "--role-session-name", "job")["Credentials"]
    key = {
        "AWS_ACCESS_KEY_ID": assumed["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": assumed["SecretAccessKey"],
        "AWS_SESSION_TOKEN": assumed["SessionToken"],
    }
    assert "items" in aws("lambda-microvms", "list-microvms", **key)
    assert aws("service-quotas", "list-service-quotas", "--service-code", "lambda")["Quotas"]
    assert "Subnets" in aws("ec2", "describe-subnets")
    aws("iam", "delete-role-policy", "--role-name", name, "--policy-name", "p")
    aws("iam", "delete-role", "--role-name", name)


def test_the_javascript_sdk_makes_and_assumes_a_role(
    packages: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("services.mjs", "package.json"):
        shutil.copy(SCRIPTS / name, tmp_path)
    name = unique("js-role")
    command = ["node", "services.mjs", name]
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
    assert json.loads(done.stdout) == {
        "caller": "arn:aws:iam::000000000000:user/admin",
        "created": True,
        "trust": {"Version": "2012-10-17", "Statement": [trust]},
        "listed": True,
        "session": f"arn:aws:sts::000000000000:assumed-role/{name}/javascript",
        "microvms": True,
        "denied": ["InvalidAction", 400],
        "deniedRole": ["AccessDenied", 403],
        "rate": 5,
        "points": [],
        "subnets": [],
        "notOffered": [["UnknownOperationException", 404], ["InvalidAction", 400]],
        "gone": ["NoSuchEntityException", 404],
    }


def test_clients_of_other_tls_are_told_of_one_file(environment: dict[str, str], server: Server) -> None:
    """The file has the gateway's authority and the system's: clients trust the gateway, and all else as before."""
    bundle = Path(environment["SSL_CERT_FILE"])
    assert (server.home / "ca-bundle.pem") == bundle
    authority = Path(environment["EMBERBOX_CA_BUNDLE"]).read_text().strip()
    assert authority in bundle.read_text()
    assert bundle.read_text().count("BEGIN CERTIFICATE") > 50
