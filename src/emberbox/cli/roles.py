"""`emberbox roles`: what the names of roles stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, given, own_client, show_table
from emberbox.cli.policies import read_document
from emberbox.model.errors import HostError

NameArgument = Annotated[str, typer.Argument(help="The role's name, the last part of its ARN.", metavar="ROLE")]
_SECRETS = {
    "accessKeyId": "AWS_ACCESS_KEY_ID",
    "secretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "sessionToken": "AWS_SESSION_TOKEN",
}

roles = typer.Typer(help="What build and execution roles stand for.", no_args_is_help=True)


@roles.command("list")
def list_roles(account: AccountOption = None) -> None:
    """List roles."""
    rows = [
        (
            role["roleArn"],
            "its account's buckets" if role.get("s3Prefixes") is None else ", ".join(role["s3Prefixes"]) or "nothing",
            "yes" if role.get("policyDocument") else "no",
            role.get("accessKeyId", "temporary"),
            role.get("description", ""),
        )
        for role in own_client().list_roles(**given(accountId=account))["items"]
    ]
    show_table(("Role", "A build may read", "Policy", "Credentials", "Description"), rows)


@roles.command()
def put(
    name: NameArgument,
    s3: Annotated[
        list[str] | None,
        typer.Option(
            "--s3", help="What a build may read; may be repeated. Without it: its account's buckets.", metavar="PREFIX"
        ),
    ] = None,
    no_s3: Annotated[bool, typer.Option("--no-s3", help="A build may read nothing.")] = False,
    policy: Annotated[
        Path | None, typer.Option(help="A file with the policy of the role's temporary credentials.")
    ] = None,
    credentials: Annotated[
        bool, typer.Option("--credentials", help="It stands for the credentials in AWS_ACCESS_KEY_ID and so on.")
    ] = False,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    account: AccountOption = None,
) -> None:
    """Say what a role stands for, in place of what was said before."""
    if s3 and no_s3:
        raise HostError("--s3 and --no-s3 exclude each other")
    parameters = given(
        roleName=name,
        accountId=account,
        description=description,
        s3Prefixes=[] if no_s3 else s3 or None,
        policyDocument=None if policy is None else read_document(policy),
        credentials=_credentials() if credentials else None,
    )
    own_client().put_role(**parameters)


@roles.command()
def delete(name: NameArgument, account: AccountOption = None) -> None:
    """Remove a role; its temporary credentials end at once."""
    own_client().delete_role(**given(roleName=name, accountId=account))


def _credentials() -> dict[str, str]:
    """Read credentials from the environment: on a command line everybody would see them."""
    found = {name: os.environ[variable] for name, variable in _SECRETS.items() if os.environ.get(variable)}
    if not {"accessKeyId", "secretAccessKey"} <= found.keys():
        raise HostError("--credentials reads AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which are not set")
    return found
