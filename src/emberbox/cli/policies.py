"""`emberbox policies`: what users may do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, UserOption, given, own_client, show_table
from emberbox.model.errors import HostError

NameArgument = Annotated[str, typer.Argument(help="The policy's name.", metavar="POLICY")]

policies = typer.Typer(help="What users may do, in IAM's policy language.", no_args_is_help=True)


@policies.command("list")
def list_policies(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.", metavar="NAME")] = None,
    account: AccountOption = None,
) -> None:
    """List the policies of users."""
    items = own_client().list_policies(**given(userName=user, accountId=account))["items"]
    show_table(("Account", "User", "Policy"), [(p["accountId"], p["userName"], p["policyName"]) for p in items])


@policies.command()
def show(name: NameArgument, user: UserOption, account: AccountOption = None) -> None:
    """Print a policy's document."""
    for policy in own_client().list_policies(**given(userName=user, accountId=account))["items"]:
        if policy["policyName"] == name:
            print(json.dumps(json.loads(policy["policyDocument"]), indent=2))
            return
    raise HostError(f"the user {user} has no policy {name}; `emberbox policies list` shows all")


@policies.command()
def put(
    name: NameArgument,
    document: Annotated[Path, typer.Argument(help="A file with the document, or - for the standard input.")],
    user: UserOption,
    account: AccountOption = None,
) -> None:
    """Give a user a policy, in place of the user's policy of the same name."""
    parameters = given(policyName=name, userName=user, accountId=account, policyDocument=read_document(document))
    own_client().put_policy(**parameters)


@policies.command()
def delete(name: NameArgument, user: UserOption, account: AccountOption = None) -> None:
    """Take a policy away from a user."""
    own_client().delete_policy(**given(policyName=name, userName=user, accountId=account))


def read_document(path: Path) -> str:
    """Return the text of a policy document.

    Raises:
        HostError: the file cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
