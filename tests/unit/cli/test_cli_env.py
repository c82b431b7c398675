"""`emberbox env`, read back by those it is for."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import boto3
import pytest
from cli_world import SECRET, LogsApi
from typer.testing import CliRunner

from emberbox.cli.bundle import VARIABLES
from emberbox.cli.context import get_server
from emberbox.cli.env import Format, render, variables
from emberbox.cli.main import app


def run_env(*options: str) -> str:
    result = CliRunner().invoke(app, ["env", *options])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_shell_reads_back_every_value(home: Path, logs_api: LogsApi) -> None:
    script = f'{run_env()}\nenv -0; echo "token:${{AWS_SESSION_TOKEN-unset}}"'
    done = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.environ["PATH"], "AWS_SESSION_TOKEN": "stale"},
        capture_output=True,
        text=True,
        check=True,
    )
    *entries, last = done.stdout.split("\0")
    seen = dict(entry.split("=", 1) for entry in entries)
    for name, value in variables(get_server(home)).items():
        assert seen[name] == value
    assert last.strip() == "token:unset"


def test_json_holds_every_value(home: Path, logs_api: LogsApi) -> None:
    assert json.loads(run_env("--format", "json")) == variables(get_server(home))


def test_dotenv_quotes_only_what_needs_it(home: Path, logs_api: LogsApi) -> None:
    lines = run_env("--format", "dotenv").splitlines()
    assert "AWS_REGION=eu-west-1" in lines
    assert f'AWS_SECRET_ACCESS_KEY="{SECRET}"' in lines
    assert f'EMBERBOX_CA_BUNDLE="{home}/ca bundle.pem"' in lines


def test_fish_gets_its_own_quoting() -> None:
    assert render({"A": "it's \\ here"}, Format.FISH).splitlines() == [
        "set -e AWS_SESSION_TOKEN",
        "set -gx A 'it\\'s \\\\ here'",
    ]


def test_every_client_is_told_of_one_file_of_authorities(home: Path, logs_api: LogsApi) -> None:
    (home / "ca bundle.pem").write_text("-----BEGIN CERTIFICATE-----\nown\n-----END CERTIFICATE-----\n")
    found = json.loads(run_env("--format", "json"))
    assert {found[name] for name in VARIABLES} == {str(home / "ca-bundle.pem")}
    text = (home / "ca-bundle.pem").read_text()
    assert "\nown\n" in text
    assert text.count("BEGIN CERTIFICATE") > 50, "what was trusted before is trusted still"


@pytest.mark.parametrize("service", ["lambda-microvms", "lambda-core", "logs", "s3", "sts", "iam", "ec2", "ssm"])
def test_boto3_finds_the_server_by_these_variables(
    home: Path, logs_api: LogsApi, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    server = get_server(home)
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client(service)
    assert client.meta.endpoint_url == (server.s3_url if service == "s3" else server.api_url)
    assert client.meta.region_name == "eu-west-1"
