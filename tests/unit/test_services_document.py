"""docs/services.md says which operations of the services around are offered: those that have a handler."""

from __future__ import annotations

import re
from pathlib import Path

from emberbox.model.iam.aws_policies import AWS_POLICIES
from emberbox.spec.models import CLOUDFORMATION, CLOUDWATCH, EC2, IAM, QUOTAS, SSM, STS
from support.control_plane import ControlPlane
from support.wire import KEY, REGION

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/services.md"
ROWS = {
    "STS": STS,
    "IAM": IAM,
    "Service Quotas": QUOTAS,
    "CloudWatch": CLOUDWATCH,
    "EC2": EC2,
    "CloudFormation": CLOUDFORMATION,
    "Systems Manager": SSM,
}


async def test_the_table_is_what_is_offered(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, KEY, REGION)
    handlers = plane.handlers()
    await plane.close()
    rows = re.findall(r"^\| ([A-Z]\w+(?: \w+)?) \| [^|]+ \| (`[^|]+`) \|$", DOCUMENT.read_text(), re.MULTILINE)
    found = {ROWS[name]: re.findall(r"`(\w+)`", operations) for name, operations in rows}
    assert found == {service: sorted(handlers[service]) for service in ROWS.values()}


def test_awss_policies_are_those_that_are_named() -> None:
    (text,) = re.findall(r"and of AWS's:(.*?), with the actions", DOCUMENT.read_text(), re.DOTALL)
    named = re.findall(r"`([\w/-]+)`", text)
    assert sorted(named) == sorted(arn.partition("policy/")[2] for arn in AWS_POLICIES)
