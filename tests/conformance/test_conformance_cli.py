"""The AWS CLI, led to the server by what `emberbox env` prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.guests import Microvm
from support.images import BUILD_ROLE, Image, make_zip, probe_files, unique
from support.server import DOMAIN, Server

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Shell:
    """A user's shell after `eval "$(emberbox env)"`."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        path = f"{BIN}{os.pathsep}{server.environment['PATH']}"
        self._environment = {**server.environment, "PATH": path, "AWS_PAGER": "", "HOME": str(directory)}
        command = server.command("env")
        script = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)
        assert script.returncode == 0, script.stderr
        self._exports = script.stdout

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line."""
        return subprocess.run(
            ["bash", "-c", f"{self._exports}\n{command}"],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def aws(self, command: str) -> Any:
        """Run an AWS command that must succeed, and return the JSON that it prints."""
        done = self.run(f"aws {command} --output json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def shell(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    assert (BIN / "aws").exists(), "the AWS CLI is a test dependency (PyPI awscli)"
    return Shell(server, tmp_path_factory.mktemp("cli"))


@pytest.mark.rule(
    "CreateMicrovmImage",
    "RunMicrovm",
    "CreateMicrovmAuthToken",
    "SuspendMicrovm",
    "ResumeMicrovm",
    "TerminateMicrovm",
    "DeleteMicrovmImage",
    "FilterLogEvents",
    "DescribeLogStreams",
    "GetLogEvents",
)
def test_the_cli_goes_from_a_zip_to_a_running_microvm(
    shell: Shell, tmp_path: Path, images: Any, gateway: Any, server: Server
) -> None:
    """s3 cp, create-microvm-image, logs, run-microvm, token and curl, suspend, resume, terminate, delete."""
    (tmp_path / "code.zip").write_bytes(make_zip(probe_files()))
    bucket, name = unique("cli"), unique("cli")
    assert shell.run(f"aws s3 mb s3://{bucket}").returncode == 0
    copied = shell.run(f"aws s3 cp {tmp_path}/code.zip s3://{bucket}/app/code.zip")
    assert copied.returncode == 0, copied.stderr
    made = shell.aws(
        f"lambda-microvms create-microvm-image --name {name} --base-image-arn {images.base_arn} "
        f"--build-role-arn {BUILD_ROLE} --code-artifact uri=s3://{bucket}/app/code.zip "
        "--resources minimumMemoryInMiB=512"
    )
    image = images.wait_created(Image(name, made["imageArn"]))
    images.log(image, "SUCCESSFUL")
    group = f"/aws/lambda-microvms/{name}"
    events = shell.aws(f"logs filter-log-events --log-group-name {group}")["events"]
    assert any(event["message"].startswith("SUCCESSFUL") for event in events)
    (stream,) = [
        row["logStreamName"]
        for row in shell.aws(f"logs describe-log-streams --log-group-name {group}")["logStreams"]
        if "[0.0]" in row["logStreamName"]
    ]
    told = shell.aws(f"logs get-log-events --log-group-name {group} --log-stream-name '{stream}' --start-from-head")
    assert any(event["message"].startswith("Building the Dockerfile") for event in told["events"])

    run = shell.aws(f"lambda-microvms run-microvm --image-identifier {image.arn}")
    microvm = Microvm(run["microvmId"], run["endpoint"], gateway)
    microvm.wait_state("RUNNING")
    which = f"--microvm-identifier {microvm.id}"
    token = shell.aws(
        f"lambda-microvms create-microvm-auth-token {which} --expiration-in-minutes 5 --allowed-ports port=8080"
    )["authToken"]["X-aws-proxy-auth"]
    answer = shell.run(
        f'curl -sS --cacert "$EMBERBOX_CA_BUNDLE" -H "X-aws-proxy-auth: {token}" "https://$EMBERBOX_GATEWAY/"'
    )
    assert json.loads(answer.stdout)["hostname"] == microvm.id, answer.stderr
    for action, state in (("suspend", "SUSPENDED"), ("resume", "RUNNING")):
        shell.aws(f"lambda-microvms {action}-microvm {which}")
        assert shell.aws(f"lambda-microvms get-microvm {which}")["state"] == state
    shell.aws(f"lambda-microvms terminate-microvm {which}")
    microvm.wait_ended()
    assert shell.aws(f"lambda-microvms delete-microvm-image --image-identifier {image.arn}")["state"] == "DELETING"


def test_the_readme_goes_from_an_example_to_a_microvm_that_answers(shell: Shell, images: Any) -> None:
    """Its lines of shell, but for the start of the server and the log that is followed; then its boto3."""
    text = (ROOT / "README.md").read_text()
    lines = text[text.index("(cd examples/flask") : text.index("emberbox logs hello --follow")]
    (script,) = [one for one in PYTHON.findall(text) if "import boto3" in one]
    made = shell.run(f"set -e; cd {ROOT}\n{lines}")
    assert made.returncode == 0, made.stderr
    images.wait_created(Image("hello", json.loads(made.stdout[made.stdout.index("{") :])["imageArn"]))
    assert "Building the Dockerfile" in shell.run("emberbox logs hello").stdout
    used = shell.run(f"{shlex.quote(sys.executable)} - <<'END'\n{script}END")
    assert used.returncode == 0, used.stderr
    assert json.loads(used.stdout)["hostname"].startswith("microvm-")


@pytest.mark.rule("GetMicrovm")
def test_the_cli_shows_errors_as_awss(shell: Shell) -> None:
    """An error names code and operation as the CLI shows it for AWS."""
    done = shell.run(
        "aws lambda-microvms get-microvm --microvm-identifier microvm-00000000-0000-0000-0000-000000000000"
    )
    assert done.returncode in (254, 255)  # the CLI's versions differ
    assert "(ResourceNotFoundException) when calling the GetMicrovm operation: MicroVM not found" in done.stderr


@pytest.mark.rule("ListMicrovmImages")
def test_the_cli_pages_by_itself(shell: Shell, probe_image: Image, flask_image: Image) -> None:
    """--page-size goes through all pages; --max-items gives a token to go on with."""
    whole = shell.aws("lambda-microvms list-microvm-images --page-size 1")["items"]
    assert {probe_image.arn, flask_image.arn} <= {item["imageArn"] for item in whole}
    first = shell.aws("lambda-microvms list-microvm-images --max-items 1")
    rest = shell.aws(f"lambda-microvms list-microvm-images --starting-token {first['NextToken']}")
    assert first["items"] + rest["items"] == whole


def test_the_endpoint_name_works_in_a_url(shell: Shell, probe: Microvm) -> None:
    """`https://{endpoint}/` is a whole URL, verified against the server's authority, as on AWS."""
    address = probe.endpoint.rpartition(":")[0]
    answer = shell.run(
        f'curl -sS --cacert "$EMBERBOX_CA_BUNDLE" --resolve {probe.endpoint}:127.0.0.1 '
        f'-H "X-aws-proxy-auth: {probe.mint()}" https://{probe.endpoint}/'
    )
    assert address.endswith(f".lambda-microvm.us-east-1.{DOMAIN}")
    assert json.loads(answer.stdout)["hostname"] == probe.id, answer.stderr
