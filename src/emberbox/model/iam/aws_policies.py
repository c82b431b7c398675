"""Policies of AWS's own account that clients attach to roles of Lambda, as far as they mean something here.

What they allow is what AWS's "Managed Policy Reference" says, without actions of services that are not here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from emberbox.model.iam.policies import FULL_ACCESS_DOCUMENT

_PREFIX: Final = "arn:aws:iam::aws:policy/"


def _allow(*actions: str) -> str:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_WRITE_LOGS: Final = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_NETWORK: Final = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
_READ: Final = (
    "cloudformation:Describe*", "cloudformation:Get*", "cloudformation:List*", "cloudwatch:Get*", "cloudwatch:List*",
    "ec2:Describe*", "iam:Get*", "iam:List*", "lambda:Get*", "lambda:List*", "logs:Describe*", "logs:FilterLogEvents",
    "logs:Get*", "logs:List*", "s3:Get*", "s3:List*", "servicequotas:Get*", "servicequotas:List*", "ssm:Get*",
)  # fmt: skip

AWS_POLICIES: Final[Mapping[str, str]] = {
    f"{_PREFIX}{name}": document
    for name, document in {
        "AdministratorAccess": FULL_ACCESS_DOCUMENT,
        "AmazonS3FullAccess": _allow("s3:*"),
        "AmazonS3ReadOnlyAccess": _allow("s3:Get*", "s3:List*", "s3:Describe*"),
        "CloudWatchLogsFullAccess": _allow("logs:*"),
        "CloudWatchLogsReadOnlyAccess": _allow("logs:Describe*", "logs:Get*", "logs:List*", "logs:FilterLogEvents"),
        "ReadOnlyAccess": _allow(*_READ),
        "AWSCloudFormationReadOnlyAccess": _allow(*_READ[:3], "cloudformation:Validate*"),
        "AWSLambdaNetworkConnectorOperatorPolicy": _allow(*_NETWORK, "ec2:CreateTags"),
        "service-role/AWSLambdaBasicExecutionRole": _allow(*_WRITE_LOGS),
        "service-role/AWSLambdaVPCAccessExecutionRole": _allow(*_WRITE_LOGS, *_NETWORK),
    }.items()
}
"""Documents, by ARN."""
