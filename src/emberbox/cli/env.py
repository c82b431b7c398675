"""`emberbox env`: what the AWS CLI and the SDKs read from the environment to find the server."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from emberbox.cli.bundle import VARIABLES, bundle_path, write_bundle
from emberbox.cli.context import Server, get_server
from emberbox.settings import load
from emberbox.spec.place import DATA_PATH


class Format(StrEnum):
    """How the variables are written."""

    SH = "sh"
    FISH = "fish"
    DOTENV = "dotenv"
    JSON = "json"


def env(
    form: Annotated[Format, typer.Option("--format", help="For which reader.")] = Format.SH,
) -> None:
    """Print the environment that leads AWS clients to the server: eval "$(emberbox env)"."""
    server = get_server(load().home)
    write_bundle(server.home, server.ca_bundle, os.environ)
    print(render(variables(server), form))


def variables(server: Server) -> dict[str, str]:
    """Return the environment; the SDKs name a service's variable by its service id, upper case.

    AWS_ENDPOINT_URL leads every other service here too, where it is served or refused: nothing goes to AWS by accident.
    AWS_DATA_PATH leads boto3 and the AWS CLI to the model of Emberbox's own service: `aws emberbox describe-server`.
    """
    return {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_ENDPOINT_URL": server.api_url,
        "AWS_ENDPOINT_URL_LAMBDA_MICROVMS": server.api_url,
        "AWS_ENDPOINT_URL_LAMBDA_CORE": server.api_url,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": server.api_url,
        "AWS_ENDPOINT_URL_S3": server.s3_url,
        "AWS_ENDPOINT_URL_EMBERBOX": server.api_url,
        "AWS_EC2_METADATA_DISABLED": "true",  # no credentials of the machine's own, should ours be dropped
        "AWS_DATA_PATH": str(DATA_PATH),
        "EMBERBOX_GATEWAY": server.gateway,
        "EMBERBOX_CA_BUNDLE": str(server.ca_bundle),
        "EMBERBOX_ACCOUNT_ID": server.account_id,
        **dict.fromkeys(VARIABLES, str(bundle_path(server.home))),
    }


def render(values: Mapping[str, str], form: Format) -> str:
    """Return the text for one kind of reader.

    The shells also drop AWS_SESSION_TOKEN: one that is left from elsewhere would be sent along.
    """
    match form:
        case Format.JSON:
            return json.dumps(values, indent=2)
        case Format.DOTENV:
            return "\n".join(f"{name}={_quote_dotenv(value)}" for name, value in values.items())
        case Format.FISH:
            lines = [f"set -gx {name} {_quote_fish(value)}" for name, value in values.items()]
            return "\n".join(["set -e AWS_SESSION_TOKEN", *lines])
        case Format.SH:
            lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
            return "\n".join(["unset AWS_SESSION_TOKEN", *lines])


def _quote_dotenv(value: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quote_fish(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
