"""CloudWatch Logs as AWS clients read them: both directions, patterns, groups, and `aws logs tail --follow`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from support.aws import Clients, refusal
from support.guests import Microvm
from support.images import BUILD_ROLE, Image, ImageMaker, unique
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.vm]

AWS_CLI_2 = "/usr/bin/aws"
"""Debian's: PyPI has version 1 alone, which has no `logs tail`."""


@pytest.mark.rule("GetLogEvents", "FilterLogEvents", "DescribeLogStreams")
def test_events_are_read_from_either_end_and_by_patterns(
    clients: Clients, images: ImageMaker, probe_image: Image
) -> None:
    """GetLogEvents begins at the newest unless startFromHead; patterns are terms, phrases, -exclusions and ?any."""
    images.log(probe_image, "SUCCESSFUL")  # lines are stored a moment after they are written
    group = f"/aws/lambda-microvms/{probe_image.name}"
    rows = clients.logs.describe_log_streams(logGroupName=group)["logStreams"]
    (stream,) = [row["logStreamName"] for row in rows if "[0.0]" in row["logStreamName"]]
    asked = {"logGroupName": group, "logStreamName": stream}
    whole = [event["message"] for event in clients.logs.get_log_events(**asked, startFromHead=True)["events"]]
    newest = clients.logs.get_log_events(**asked, limit=2)
    assert [event["message"] for event in newest["events"]] == whole[-2:]
    older = clients.logs.get_log_events(**asked, limit=2, nextToken=newest["nextBackwardToken"])
    assert [event["message"] for event in older["events"]] == whole[-4:-2]

    def count(pattern: str) -> int:
        found = clients.logs.filter_log_events(logGroupName=group, logStreamNames=[stream], filterPattern=pattern)
        return len(found["events"])

    copies = sum("COPY" in line for line in whole)
    assert copies > 0
    named = (count("COPY"), count("COPY -probe.pl"), count('"COPY probe.pl"'), count("copY"))
    assert named == (copies, 0, copies, 0)
    assert count("?Fetching ?SUCCESSFUL") == 2
    refused = refusal(clients.logs.filter_log_events, logGroupName=group, filterPattern="[first, second]")
    assert refused[:2] == (400, "InvalidParameterException")


@pytest.mark.rule("FilterLogEvents")
def test_events_that_are_json_are_found_by_their_properties(
    clients: Clients, probe: Microvm, probe_image: Image
) -> None:
    """Texts with wildcards, numbers, what is NULL or does not exist, joined by && and ||; other lines match nothing."""
    lines = (
        '{"level": "ERROR", "status": 503, "who": {"roles": ["admin"]}}',
        '{"level": "INFO", "status": 200}',
        "ERROR",
    )
    for line in lines:
        probe.shell(f"echo '{line}' > /proc/1/fd/1")
    group = f"/aws/lambda-microvms/{probe_image.name}"

    def found(pattern: str) -> list[str]:
        pages = clients.logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        rows = [row for page in pages for row in page["logStreams"]]  # other tests' microVMs are there, too
        streams = [row["logStreamName"] for row in rows if probe.id in row["logStreamName"]]
        asked = {"logGroupName": group, "logStreamNames": streams, "filterPattern": pattern}
        return [event["message"] for event in clients.logs.filter_log_events(**asked)["events"]] if streams else []

    wait_for("all is written", lambda: len(found("?ERROR ?INFO")) == len(lines))
    assert found('{ $.level = "ERR*" }') == [lines[0]]
    assert found("{ $.status < 500 || $.who.roles[0] = admin }") == list(lines[:2])
    assert found('{ ($.status >= 200) && ($.who NOT EXISTS) && $.level != "ERROR" }') == [lines[1]]
    assert found("{ $.status = 5* }") == [lines[0]]
    assert refusal(clients.logs.filter_log_events, logGroupName=group, filterPattern="{ $.x }")[:2] == (
        400,
        "InvalidParameterException",
    )


@pytest.mark.rule(
    "CreateLogGroup", "DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "DeleteRetentionPolicy",
    "DescribeLogGroups",
)  # fmt: skip
def test_groups_are_made_kept_for_days_and_deleted(clients: Clients) -> None:
    """A group has a retention of AWS's values; a second one of its name and an unknown one are refused."""
    group = {"logGroupName": unique("group")}
    clients.logs.create_log_group(**group)
    assert refusal(clients.logs.create_log_group, **group)[:2] == (400, "ResourceAlreadyExistsException")
    clients.logs.put_retention_policy(**group, retentionInDays=7)

    def shown() -> dict[str, Any]:
        (found,) = clients.logs.describe_log_groups(logGroupNamePrefix=group["logGroupName"])["logGroups"]
        return dict(found)

    assert shown()["retentionInDays"] == 7
    assert shown()["arn"] == f"{shown()['logGroupArn']}:*"
    clients.logs.delete_retention_policy(**group)
    assert "retentionInDays" not in shown()
    assert refusal(clients.logs.put_retention_policy, **group, retentionInDays=2)[:2] == (
        400,
        "InvalidParameterException",
    )
    missing = refusal(clients.logs.delete_log_stream, **group, logStreamName="missing")
    assert missing == (400, "ResourceNotFoundException", "The specified log stream does not exist.")
    clients.logs.delete_log_group(**group)
    assert refusal(clients.logs.delete_log_group, **group)[:2] == (400, "ResourceNotFoundException")


@pytest.mark.rule("DescribeLogGroups")
def test_a_group_that_output_made_outlives_it(
    clients: Clients, launch: Callable[..., Microvm], probe_image: Image
) -> None:
    """Its size is shown (26 bytes an event beside the text); with its last event gone it stays, until it is deleted."""
    group = unique("/output")
    microvm = launch(probe_image, logging={"cloudWatch": {"logGroup": group}}, executionRoleArn=BUILD_ROLE)
    microvm.shell("echo told > /proc/1/fd/1")

    def shown() -> list[dict[str, Any]]:
        return list(clients.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])

    wait_for("something is told", lambda: shown() and shown()[0]["storedBytes"] > 26)
    for row in clients.logs.describe_log_streams(logGroupName=group)["logStreams"]:
        clients.logs.delete_log_stream(logGroupName=group, logStreamName=row["logStreamName"])
    assert [row["logGroupName"] for row in shown()] == [group]
    clients.logs.delete_log_group(logGroupName=group)


@pytest.mark.rule("FilterLogEvents")
def test_logs_tail_follows_what_a_microvm_prints(
    server: Server, launch: Callable[..., Microvm], probe_image: Image
) -> None:
    """`aws logs tail --follow` shows lines while they are written."""
    credentials = server.credentials()
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": credentials["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": credentials["aws_secret_access_key"],
        "AWS_REGION": credentials["region_name"],
        "PYTHONUNBUFFERED": "1",
    }
    group = f"/aws/lambda-microvms/{probe_image.name}"
    url = server.endpoints["api_url"]
    command = [AWS_CLI_2, "--endpoint-url", url, "logs", "tail", group, "--follow", "--since", "1h"]
    output = server.home.parent / "tail.txt"
    with output.open("wb") as file:
        tail = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        wait_for("tail shows what was there", lambda: "SUCCESSFUL" in output.read_text(errors="replace"), 60)
        microvm = launch(probe_image, runHookPayload="seen-by-tail")

        def followed() -> bool:
            return f"[1.0]{microvm.id}" in output.read_text() and "seen-by-tail" in output.read_text()

        wait_for("tail shows what is written", followed, 60)
        assert tail.poll() is None
    finally:
        tail.kill()
        tail.wait()
