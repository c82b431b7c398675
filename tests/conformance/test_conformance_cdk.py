"""CDK, unmodified, from npm: from an account that it has never seen to a running microVM, and all of it away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from emberbox.time_limits import limit_s
from support.images import PROBE_DOCKERFILE, probe_files, unique
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

APP = Path(__file__).parent / "cdk"
TIMEOUT_S = 900
AGAIN = ("--app", "cdk.out")
"""What the app has said once is taken as it is: it takes long to start."""

Cdk = Callable[..., str]
"""Runs the command line and returns all that it has said."""


@pytest.fixture
def stack(session: boto3.Session) -> str:
    """A stack's name."""
    return unique("cdk")


@pytest.fixture
def cdk(install: Callable[[Path], Path], environment: dict[str, str], stack: str, tmp_path: Path) -> Cdk:
    """CDK's command line in a directory with the app and the code of its image."""
    packages = install(APP / "package.json")
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("app.mjs", "package.json"):
        shutil.copy(APP / name, tmp_path)
    (tmp_path / "cdk.json").write_text('{"app": "node app.mjs"}')
    (tmp_path / "code").mkdir()
    for name, content in probe_files(PROBE_DOCKERFILE).items():
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "code" / name).write_bytes(data)
    own = {"HOME": str(tmp_path), "CDK_DISABLE_TELEMETRY": "1", "CI": "1", "STACK": stack}

    def run(*arguments: str) -> str:
        command = ["node", str(packages / "node_modules/aws-cdk/bin/cdk"), *arguments, "--no-notices"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, **own, "PATH": os.environ["PATH"]}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s(TIMEOUT_S),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def test_cdk_deploys_an_image_that_runs(
    session: boto3.Session, environment: dict[str, str], stack: str, cdk: Cdk
) -> None:
    account, region = environment["EMBERBOX_ACCOUNT_ID"], environment["AWS_REGION"]
    assert "bootstrapped" in cdk("bootstrap", f"aws://{account}/{region}")
    try:
        assert f"✅  {stack}" in cdk("deploy", "--require-approval", "never")
        stacks, microvms = session.client("cloudformation"), session.client("lambda-microvms")
        outputs = stacks.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
        arn = next(one["OutputValue"] for one in outputs if one["OutputKey"] == "Arn")
        microvm = microvms.run_microvm(imageIdentifier=arn)["microvmId"]

        def state() -> str:
            return str(microvms.get_microvm(microvmIdentifier=microvm)["state"])

        wait_for("the microVM runs", lambda: state() == "RUNNING", 120)
        microvms.terminate_microvm(microvmIdentifier=microvm)
        wait_for("the microVM has ended", lambda: state() == "TERMINATED", 60)
        groups = session.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda-microvms/{stack}")
        assert groups["logGroups"][0]["retentionInDays"] == 14
        assert "(no changes)" in cdk("deploy", *AGAIN, "--require-approval", "never")
    finally:
        gone = cdk("destroy", *AGAIN, "--force")
    assert f"{stack}: destroyed" in gone
    left = session.client("lambda-microvms").list_microvm_images(nameFilter=stack)["items"]
    assert left == []
