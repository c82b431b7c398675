"""Accounts, keys, policies, roles, quotas and the audit trail, through the command line and unmodified boto3."""

from __future__ import annotations

import configparser
import json
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from emberbox.cli.context import get_server
from support.aws import Clients, check_answer, refusal
from support.images import ImageMaker, unique
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = pytest.mark.conformance

ALLOW_MICROVMS = {"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}


class Operator:
    """Who types `emberbox …` on the server's machine."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self._server.environment, **more}
        command = self._server.command(*arguments)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def __call__(self, *arguments: str, **more: Any) -> str:
        """Run a command that must succeed; return what it prints."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def put_policy(self, user: str, account: str, *statements: dict[str, Any]) -> None:
        path = self._directory / "policy.json"
        path.write_text(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
        self("policies", "put", "test", str(path), "--user", user, "--account", account)

    def client(self, printed: str, service: str = "lambda-microvms") -> Any:
        """Return a client that signs with a key as the command line printed it."""
        parser = configparser.ConfigParser()
        parser.read_string(printed)
        (section,) = parser.sections()
        return client(self._server, service, dict(parser[section]))


def client(server: Server, service: str, key: dict[str, str], **config: Any) -> Any:
    made = boto3.client(
        service,
        endpoint_url=server.endpoints["api_url"],
        region_name=server.endpoints["region"],
        config=Config(**{"retries": {"total_max_attempts": 1}, "proxies": {}, **config}),
        **key,
    )
    made.meta.events.register("after-call.*", check_answer)
    return made


@pytest.fixture(scope="module")
def operator(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(server, tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def account() -> str:
    """An account of this test run."""
    return f"{uuid.uuid4().int % 10**12:012}"


@pytest.fixture(scope="module")
def admin(operator: Operator, account: str) -> Any:
    """The admin of that account."""
    return operator.client(operator("accounts", "create", "team red", "--id", account))


def account_image(account: str, name: str = "web") -> str:
    return f"arn:aws:lambda:us-east-1:{account}:microvm-image:{name}"


@pytest.mark.rule("GetMicrovmImage", "ListMicrovmImages", "ListMicrovms")
def test_an_account_sees_nothing_of_another(operator: Operator, admin: Any, account: str, clients: Clients) -> None:
    """Another account's ARN is denied in AWS's words, and lists show one's own."""
    assert account in operator("accounts", "list")
    assert admin.list_microvm_images()["items"] == admin.list_microvms()["items"] == []
    theirs = account_image("000000000000")
    text = (
        f"User: arn:aws:iam::{account}:user/admin is not authorized to perform: lambda:GetMicrovmImage on resource: "
        f"{theirs} because no resource-based policy allows the lambda:GetMicrovmImage action"
    )
    assert refusal(admin.get_microvm_image, imageIdentifier=theirs) == (403, "AccessDeniedException", text)
    status, code, _ = refusal(clients.microvms.get_microvm_image, imageIdentifier=account_image(account))
    assert (status, code) == (403, "AccessDeniedException")


@pytest.mark.rule("ListMicrovms")
def test_a_policy_decides_from_the_next_request_on(operator: Operator, admin: Any, account: str) -> None:
    """What nothing allows and what a statement denies is refused in AWS's words, as 403 AccessDeniedException."""
    user = operator.client(operator("keys", "create", "--user", "ann", "--account", account))
    text = (
        f"User: arn:aws:iam::{account}:user/ann is not authorized to perform: lambda:ListMicrovms on resource: * "
        "because no identity-based policy allows the lambda:ListMicrovms action"
    )
    assert refusal(user.list_microvms) == (403, "AccessDeniedException", text)
    operator.put_policy("ann", account, ALLOW_MICROVMS)
    assert user.list_microvms()["items"] == []
    assert json.loads(operator("policies", "show", "test", "--user", "ann", "--account", account))["Statement"]
    operator.put_policy("ann", account, ALLOW_MICROVMS, {**ALLOW_MICROVMS, "Effect": "Deny"})
    status, code, message = refusal(user.list_microvms)
    assert (status, code) == (403, "AccessDeniedException")
    assert message.endswith("with an explicit deny in an identity-based policy")
    operator("policies", "delete", "test", "--user", "ann", "--account", account)
    assert refusal(user.list_microvms) == (403, "AccessDeniedException", text)


def test_a_malformed_policy_is_refused_by_its_place(operator: Operator, account: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "lambda", "Resource": "*"}}')
    done = operator.run("policies", "put", "bad", str(bad), "--user", "ann", "--account", account)
    assert done.returncode == 1
    assert 'Statement[0].Action: "lambda" must be service:Action' in done.stderr.replace("\n", "")


def test_a_disabled_key_signs_nothing(operator: Operator, admin: Any, account: str) -> None:
    printed = operator("keys", "create", "--user", "admin", "--account", account)
    fresh = operator.client(printed)
    key_id = printed.split("aws_access_key_id = ")[1].split()[0]
    assert fresh.list_microvms()["items"] == []
    operator("keys", "disable", key_id)
    text = "The security token included in the request is invalid."
    assert refusal(fresh.list_microvms) == (403, "UnrecognizedClientException", text)
    assert "Inactive" in operator("keys", "list", "--account", account)
    operator("keys", "enable", key_id)
    assert fresh.list_microvms()["items"] == []
    operator("keys", "delete", key_id)
    assert refusal(fresh.list_microvms) == (403, "UnrecognizedClientException", text)


def test_temporary_credentials_and_presigned_requests_are_good(server: Server) -> None:
    own = get_server(server.home).client("emberbox")
    made = own.get_session_token(durationSeconds=900)["credentials"]
    key = {
        "aws_access_key_id": made["accessKeyId"],
        "aws_secret_access_key": made["secretAccessKey"],
        "aws_session_token": made["sessionToken"],
    }
    session = client(server, "lambda-microvms", key)
    assert "items" in session.list_microvms()
    url = session.generate_presigned_url("list_microvm_images")
    with urllib.request.urlopen(url) as answer:
        assert "items" in json.load(answer)
    without = client(server, "lambda-microvms", {name: key[name] for name in list(key)[:2]})
    assert refusal(without.list_microvms)[:2] == (403, "UnrecognizedClientException")


@pytest.mark.rule("CreateMicrovmImage")
def test_a_quota_that_is_used_up_answers_402(operator: Operator, admin: Any, account: str, images: ImageMaker) -> None:
    """The code is ServiceQuotaExceededException, and nothing is made."""
    operator("quotas", "set", "Images", "0", "--account", account)
    request = images.request("refused", "s3://code/any.zip") | {"buildRoleArn": f"arn:aws:iam::{account}:role/build"}
    text = "The maximum number of MicroVM images (0) has been reached for this account."
    assert refusal(admin.create_microvm_image, **request) == (402, "ServiceQuotaExceededException", text)
    assert admin.list_microvm_images()["items"] == []
    operator("quotas", "reset", "Images", "--account", account)
    assert " 100 " in next(line for line in operator("quotas", "list").splitlines() if line.startswith("Images "))


@pytest.mark.rule("CreateMicrovmImage", "ListMicrovmImageBuilds")
def test_a_build_reads_only_what_its_role_may(operator: Operator, clients: Clients, images: ImageMaker) -> None:
    """A build role that may not read the artifact fails the build with S3_ACCESS_DENIED."""
    role = unique("reader")
    operator("roles", "put", role, "--s3", "s3://code/allowed/", "--description", "for a test")
    assert "s3://code/allowed/" in next(line for line in operator("roles", "list").splitlines() if role in line)
    arn = f"arn:aws:iam::000000000000:role/{role}"
    made = images.start("denied", "s3://code/elsewhere/app.zip", buildRoleArn=arn)
    assert images.wait(made) == "CREATE_FAILED"
    version = {"imageIdentifier": made.arn, "imageVersion": "1.0"}
    (build,) = clients.microvms.list_microvm_image_builds(**version)["items"]
    assert build["stateReason"] == "S3_ACCESS_DENIED"
    images.delete(made)
    operator("roles", "delete", role)


def test_the_audit_trail_says_who_did_what(operator: Operator, admin: Any, account: str, server: Server) -> None:
    refusal(admin.get_microvm, microvmIdentifier="microvm-00000000-0000-0000-0000-000000000000")
    lines = operator("audit", "--since", "1h", "--event", "GetMicrovm", "--json").splitlines()
    record = next(record for record in map(json.loads, lines) if record["recipientAccountId"] == account)
    assert record["errorCode"] == "ResourceNotFoundException"
    assert record["userIdentity"]["arn"] == f"arn:aws:iam::{account}:user/admin"
    assert record["sourceIPAddress"] == "127.0.0.1"
    assert "Boto3" in record["userAgent"]
    shown = operator("audit", "--event", "GetMicrovm", "--user", "admin")
    assert f"ResourceNotFoundException GetMicrovm arn:aws:iam::{account}:user/admin 127.0.0.1" in shown
    secret = (server.home / "credentials").read_text().split("aws_secret_access_key = ")[1].split()[0]
    assert secret not in operator("audit", "--json")


@pytest.fixture
def strict_server() -> Iterator[Server]:
    """A server of its own, with AWS's rates and strict roles."""
    server = Server(make_home(), rate_limits="aws", strict_roles="true")
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_rates_roles_and_rotation_on_a_strict_server(strict_server: Server, tmp_path: Path) -> None:
    server = strict_server
    clients, operator = Clients.of(server), Operator(server, tmp_path)
    nobody = {"microvmIdentifier": "microvm-00000000-0000-0000-0000-000000000000"}

    operator("quotas", "set", "SuspendMicrovmRate", "0")
    status, code, text = refusal(clients.microvms.suspend_microvm, **nobody)
    assert (status, code, text) == (429, "ThrottlingException", "Rate exceeded")
    operator("quotas", "reset", "SuspendMicrovmRate")
    assert refusal(clients.microvms.suspend_microvm, **nobody)[0] == 404

    role = "arn:aws:iam::000000000000:role/undefined"
    request = ImageMaker(clients, server.endpoints["region"]).request("x", "s3://code/x.zip", buildRoleArn=role)
    status, code, text = refusal(clients.microvms.create_microvm_image, **request)
    assert (status, code) == (400, "ValidationException")
    assert f"The role {role} cannot be assumed by Lambda" in text

    old = server.credentials()
    operator("keys", "rotate")
    assert server.credentials() != old
    for found in (old, server.credentials()):
        key = {name: value for name, value in found.items() if name != "region_name"}
        assert client(server, "lambda-microvms", key).list_microvms()["items"] == []
    Clients.of(server).s3.list_buckets()  # the embedded S3 knows it at once

    server.kill()
    server.start()
    clients = Clients.of(server)
    clients.s3.list_buckets()
    operator("keys", "delete", old["aws_access_key_id"])
    names = [json.loads(line)["eventName"] for line in operator("audit", "--json").splitlines()]
    assert {"SuspendMicrovm", "CreateMicrovmImage", "CreateAccessKey"} <= set(names)
    wait_for("the deletion is recorded", lambda: "DeleteAccessKey" in operator("audit", "--event", "DeleteAccessKey"))
