"""Emberbox's own service: reached by unmodified AWS clients through its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from support.engines import ENGINE
from support.server import Server

pytestmark = pytest.mark.conformance


def test_boto3_reaches_it_by_its_model(server: Server) -> None:
    answer = get_server(server.home).client("emberbox").describe_server()

    assert answer["region"] == server.endpoints["region"]
    assert answer["accelerator"] in ENGINE.accelerators


def test_the_aws_command_line_reaches_it_by_the_environment_that_env_prints(server: Server) -> None:
    environment = {**os.environ, **variables(get_server(server.home))}
    aws = Path(sys.executable).with_name("aws")
    done = subprocess.run(
        [sys.executable, aws, "emberbox", "describe-server"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout)["network"] == server.endpoints["network"]


def test_anybody_may_read_its_openapi_document(server: Server) -> None:
    with urllib.request.urlopen(f"{server.endpoints['api_url']}/emberbox/openapi.json") as answer:
        document = json.load(answer)

    assert document["paths"]["/emberbox/2026-11-24/server"]["get"]["operationId"] == "DescribeServer"
